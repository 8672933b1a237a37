# What the scripts share; to be sourced.

step() { printf '\n==> %s\n' "$*" >&2; }

fail() {
    printf "%s: %s\n" "$0" "$*" >&2
    exit 1
}

# Whether a program is on the path. A builtin of the shell does not count.
have() { type -P "$1" >/dev/null; }

need_command() { have "$1" || fail "$1 is missing: $2"; }

# Installs Debian packages, or says which are missing where there is no apt-get.
install_packages() {
    [ $# -gt 0 ] || return 0
    have apt-get || fail "these are missing, by their Debian names; install them first: $*"
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "these are missing; install them as root: apt-get install $*"
        root=(sudo)
    fi
    step "apt-get install $*"
    "${root[@]}" apt-get update -qq
    # Debian would start a service for each server. A machine that forbids that already stays as it is.
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then
        policy=
    else
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
        trap '"${root[@]}" rm -f "$policy"' EXIT
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" </dev/null || status=$?
    if [ -n "$policy" ]; then
        "${root[@]}" rm -f "$policy"
        trap - EXIT
    fi
    return "$status"
}
