# shellcheck shell=sh
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by the build scripts: packages of any Debian release from the mirror this machine already uses.

DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# die MESSAGE: end the script with MESSAGE on stderr.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# need_root: the builds unpack system trees and change the package state.
need_root() {
    [ "$(id -u)" -eq 0 ] || die 'must run as root'
}

# need_packages PACKAGE...: install those that are missing, with this machine's own apt.
need_packages() {
    missing=
    for package in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -z "$missing" ] && return 0
    # shellcheck disable=SC2086 # a list of names
    if ! apt_quiet install $missing 2>/dev/null; then
        apt_quiet update || return 1
        # shellcheck disable=SC2086
        apt_quiet install $missing
    fi
}

# apt_quiet VERB [ARGUMENT...]: non-interactive apt-get that only speaks when something is wrong.
apt_quiet() {
    verb=$1
    shift
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$verb" "$@" >/dev/null
}

# debian_mirror: print the URI of the Debian archive in this machine's apt sources.
# It is taken from apt itself (so deb822 and one-line sources work alike), which knows only what has been updated once.
# A mirror list (cloud images) gives its first line.
debian_mirror() {
    uri=$(archive_of_apt)
    if [ -z "$uri" ]; then
        apt_quiet update || exit 1
        uri=$(archive_of_apt)
    fi
    case $uri in
        mirror+file:*)
            list=/$(printf %s "${uri#mirror+file:}" | sed 's|^/*||; s|/*$||')
            uri=$(awk '/^[^#[:space:]]/ { print $1; exit }' "$list")
            ;;
        '') die 'no Debian archive of the running release in the apt sources' ;;
    esac
    printf '%s\n' "$uri"
}

# archive_of_apt: print the URI of the entry for the release the machine runs. Security, backports and third-party archives
# have other suite names.
archive_of_apt() {
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(RELEASE) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v c="$codename" '$1 == c || $2 == c { print $NF; exit }'
}

# debian_sources SUITE...: print one-line apt sources of these suites.
debian_sources() {
    mirror=$(debian_mirror) || exit 1
    for suite in "$@"; do
        printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEYRING" "$mirror" "$suite"
    done
}

# private_apt_init DIRECTORY SUITE...: an apt of its own under DIRECTORY, with these suites and nothing installed.
private_apt_init() {
    root=$1
    shift
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/parts"
    : >"$root/status"
    : >"$root/preferences"
    debian_sources "$@" >"$root/sources.list"
    private_apt "$root" -qq update >/dev/null
}

# private_apt DIRECTORY ARGUMENT...: apt-get on that private state. The machine's own apt.conf (a proxy) still counts.
private_apt() {
    root=$1
    shift
    apt-get -o Dir::State="$root" -o Dir::State::status="$root/status" -o Dir::State::lists="$root/lists" \
        -o Dir::Cache="$root/cache" -o Dir::Etc::sourcelist="$root/sources.list" -o Dir::Etc::sourceparts="$root/parts" \
        -o Dir::Etc::preferences="$root/preferences" -o Dir::Etc::preferencesparts="$root/parts" \
        -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o APT::Architecture=amd64 \
        -o APT::Get::Assume-Yes=true -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
