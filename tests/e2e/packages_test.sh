#!/usr/bin/env bash
# packages_test.sh - tools/packages is the one list: the Dockerfile asks it, and what the binary links to is in it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
retort=${RETORT:-build/retort}

n=0 failed=0
check() { # description, command...
    local what=$1 said
    shift
    n=$((n + 1))
    if said=$("$@" 2>&1); then echo "ok $n - $what"; else
        failed=1
        echo "not ok $n - $what"
        sed 's/^/# /' <<<"$said"
    fi
}

dockerfile_asks() { grep -q "packages install $1" Dockerfile; }
dockerfile_names_none() { ! grep -nE 'apt(-get)? .*install' Dockerfile; }

all_sets_known() {
    local set
    for set in build runtime demo test lint bench; do tools/packages list "$set" | grep -q . || return 1; done
    ! tools/packages list nonsense
}

# Every library that the binary itself asks for comes from a package of the runtime set, and every one of these is used.
linked() {
    local library file
    for library in $(readelf -d "$retort" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        case $library in libc.so.* | libm.so.* | ld-linux* | libgcc_s.*) continue ;; esac
        file=$(ldd "$retort" | awk -v l="$library" '$1 == l { print $3 }')
        { dpkg-query -S "$(readlink -f "$file")" || dpkg-query -S "$(readlink -f "$file" | sed 's,^/usr,,')"; } 2>/dev/null |
            sed 's/:.*//'
    done | sort -u
}
runtime_is_what_is_linked() {
    if readelf -d "$retort" | grep -qE 'NEEDED.*lib(asan|tsan|ubsan)'; then echo "a sanitizer build links more"; return 0; fi
    diff <(tools/packages list runtime) <(linked)
}

echo 1..5
check "the Dockerfile installs the build set" dockerfile_asks build
check "the Dockerfile installs the runtime set" dockerfile_asks runtime
check "the Dockerfile names no package itself" dockerfile_names_none
check "every set has packages, and an unknown set is refused" all_sets_known
check "the runtime set is exactly what the binary links to" runtime_is_what_is_linked
exit $failed
