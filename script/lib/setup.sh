# shellcheck shell=sh
# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sets a Debian machine up for the scripts beside this directory: packages, Python, a virtual environment.
# Sourced by them, with $root set to the collection's directory. Functions return non-zero on failure; output is on stderr.

: "${root:?}"
cache=${HOSTMEM_CACHE:-/var/cache/hostmem-tests}

say() {
    printf '%s\n' "$*" >&2
}

# Installs those of the named Debian packages that are missing; asks apt nothing if none is.
apt_install() {
    missing=
    for package in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "Debian packages are missing and only root can install them:$missing"
        return 1
    fi
    say "Installing Debian packages:$missing"
    apt-get update -q >&2 || return 1
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
}

# Whether the Python $1 is at least version $2.$3.
python_at_least() {
    "$1" -c "import sys; sys.exit(sys.version_info < ($2, $3))" 2>/dev/null
}

# Prints the real path of the interpreter of Python $1 (as in 3.13), from pyenv (never its shims) or the system.
python_of_version() {
    for candidate in "$HOME/.pyenv/versions/$1."*/bin/python3 "/usr/local/bin/python$1" "/usr/bin/python$1"; do
        if [ -x "$candidate" ] && "$candidate" -c 'import venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# Prints the interpreter for the controller: HOSTMEM_PYTHON if set, else the newest that current ansible-core takes,
# else the system's if ansible-core 2.19 takes it (Debian 12).
controller_python() {
    if [ -n "${HOSTMEM_PYTHON:-}" ]; then
        printf '%s\n' "$HOSTMEM_PYTHON"
        return 0
    fi
    for version in 3.13 3.14 3.12; do
        python_of_version "$version" && return 0
    done
    apt_install python3 python3-venv || return 1
    if python_at_least /usr/bin/python3 3 11; then
        printf '%s\n' /usr/bin/python3
        return 0
    fi
    say 'No Python >= 3.11 found, which ansible-core needs on the controller; name one in HOSTMEM_PYTHON.'
    return 1
}

# Prints the path of a virtual environment of the Python $1 with the requirements file $2 installed; makes it if there is none.
make_venv() {
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3-venv || return 1
    fi
    key=$({ "$1" -c 'import sys; print(sys.executable, sys.version)' && cat "$2"; } | sha256sum | cut -c 1-12) || return 1
    venv=$cache/venv-$key
    mkdir -p "$cache" || return 1
    (
        flock 9 || exit 1
        [ ! -e "$venv/complete" ] || exit 0
        say "Making a virtual environment in $venv"
        rm -rf "$venv"
        "$1" -m venv "$venv" >&2 &&
            "$venv/bin/pip" install -q --disable-pip-version-check --upgrade -r "$2" >&2 &&
            : >"$venv/complete"
    ) 9>"$venv.lock" || return 1
    printf '%s\n' "$venv"
}

# Copies the work tree of the collection, without what git ignores, to the directory $1/ansible_collections/hostmem/qemu.
export_tree() {
    tree=$1/ansible_collections/hostmem/qemu
    mkdir -p "$tree" || return 1
    # The repository may belong to another user than the one who tests.
    if git -c safe.directory='*' -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
        git -c safe.directory='*' -c core.quotePath=false -C "$root" ls-files -co --exclude-standard
    else
        (cd "$root" && find . -type d \( -name '.venv*' -o -name .nox -o -name .ansible -o -name output \) -prune -o ! -type d -print)
    fi | (cd "$root" && while IFS= read -r file; do
        # A file can be known to git and deleted.
        if [ -e "$file" ] || [ -h "$file" ]; then printf '%s\n' "$file"; fi
    done | tar -cf - --no-recursion -T -) | tar -xf - -C "$tree"
}
