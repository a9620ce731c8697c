#!/bin/sh
# bootstrap.sh [LIST...] - install the packages of the lists (.ci/packages) that are missing; do nothing, fast, when
# none is.
#
# They are named before they are installed, and installed only as root or with
# a sudo that asks for no password; otherwise this says what to type and fails.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- .ci/packages

present()
{
	package=$1
	shift
	for test; do
		case $test in
		cmd:*) command -v "${test#cmd:}" >/dev/null 2>&1 && return 0 ;;
		pkg:*) pkg-config --exists "${test#pkg:}" 2>/dev/null && return 0 ;;
		esac
	done
	if command -v dpkg-query >/dev/null 2>&1; then
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
		'install ok installed') return 0 ;;
		*) return 1 ;;
		esac
	fi
	# Elsewhere only what has a test can be looked for.
	[ $# -eq 0 ]
}

missing=
for list; do
	while read -r package tests; do
		case $package in
		'' | '#'*) continue ;;
		esac
		# shellcheck disable=SC2086 # several tests, one word each
		present "$package" $tests || missing="$missing $package"
	done <"$list"
done
missing=${missing# }
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "Missing, by their Debian names (install what your system calls them):" >&2
	echo "    $missing" >&2
	exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
	root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	root='sudo -n'
else
	echo "Missing packages. Please run, as root:" >&2
	echo "    apt-get update && apt-get install --no-install-recommends $missing" >&2
	exit 1
fi

echo "Installing: $missing"
install()
{
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing </dev/null
}
# Lists of packages may be missing (a fresh container) or stale (a version that is gone): update only then.
# shellcheck disable=SC2086
if apt-get install -s -qq --no-install-recommends $missing >/dev/null 2>&1; then
	install && exit 0
fi
$root apt-get update -qq
install
