# shellcheck shell=sh
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced after debian.sh by the scripts that build test hosts: a Debian system in a directory.

# bootstrap WORK RELEASE SUITES [OPTION...]: unpack and configure the system in WORK/root. SUITES is a list of words;
# WORK/preferences, for apt, says what comes from another suite than RELEASE; the options are mmdebstrap's.
bootstrap() {
    work=$1
    release=$2
    # shellcheck disable=SC2086 # a list of suites
    debian_sources $3 >"$work/sources.list"
    shift 3
    # mmdebstrap does not look up the machine's own apt proxy.
    proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || set -- "--aptopt=Acquire::http::Proxy \"$proxy\"" "$@"
    mmdebstrap --quiet --variant=minbase --mode=root --format=directory --architectures=amd64 \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Retries "3"' \
        --setup-hook="cp '$work/preferences' \"\$1/etc/apt/preferences.d/tests\"" "$@" \
        "$release" "$work/root" "$work/sources.list"
}

# go_offline ROOT: no apt source but those in /opt.
go_offline() {
    chroot "$1" apt-get clean
    rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/preferences.d/* \
        "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/var/lib/apt/lists/*
    echo 'Acquire::Languages "none";' >"$1/etc/apt/apt.conf.d/90tests"
}

# mask ROOT UNIT...: units that never start.
mask() {
    root=$1
    shift
    for unit in "$@"; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
}
