#!/bin/sh
# Makes a release: `make release`. Without YES=1 it is a dry run, and it never pushes.
#
#   make release                       # prints the next version, and what prevents a release of it
#   make release BUMP=minor YES=1      # or VERSION=x.y.z: one commit and one annotated tag
#
# uv writes the version, towncrier the changelog. Exit code 0: the release is made, or may be made. 1: it may not, and
# every reason is printed; or a step failed. Then nothing is changed. 2: wrong usage.
set -eu

branch=main
number='(0|[1-9][0-9]*)'

usage() { echo "release: $1" >&2; exit 2; }

VERSION=${VERSION:-} BUMP=${BUMP:-} YES=${YES:-}
case $BUMP in '' | major | minor | patch) ;; *) usage "BUMP: '$BUMP' is none of major, minor, patch" ;; esac
case $YES in '' | 1) ;; *) usage "YES: '$YES' is not 1; leave it out for a dry run" ;; esac
if [ "$VERSION" ]; then
    echo "$VERSION" | grep -Eqx "$number\.$number\.$number" || usage "VERSION: '$VERSION' is no version x.y.z, three numbers"
    [ -z "$BUMP" ] || usage 'VERSION or BUMP, not both'
fi
[ -z "$YES" ] || [ "$VERSION$BUMP" ] || usage 'which version? VERSION=x.y.z or BUMP=major, minor or patch'

latest() { sort -V | tail -n 1; }
comes_after() { [ "$1" != "$2" ] && [ "$(printf '%s\n' "$1" "$2" | latest)" = "$1" ]; }
# The version after the last release; the first release counts from 0.0.0.
bumped() {
    echo "${last:-0.0.0}" | awk -F. -v part="$1" \
        '{ print part == "major" ? $1 + 1 ".0.0" : part == "minor" ? $1 "." $2 + 1 ".0" : $1 "." $2 "." $3 + 1 }'
}

present=$(uv version --short)
last=$(git tag --list | sed -nE "s/^v($number\.$number\.$number)\$/\1/p" | latest)
if [ "$VERSION" ]; then version=$VERSION
elif [ "$BUMP" ]; then version=$(bumped "$BUMP")
elif [ -z "$last" ] || comes_after "$present" "$last"; then version=$present
else version=$(bumped minor)
fi
tag=v$version

failed=0
ok() { printf '  ok      %-15s%s\n' "$1" "$2"; }
fail() { printf '  FAILED  %-15s%s\n' "$1" "$2"; failed=$((failed + 1)); }

check_tree() {
    changed=$(git status --porcelain | cut -c 4- | head -n 12)
    if [ "$changed" ]; then fail tree "not committed: $(echo "$changed" | paste -sd ' ' -)"; else ok tree clean; fi
}

check_branch() {
    here=$(git symbolic-ref --quiet --short HEAD || echo 'no branch')
    if [ "$here" != $branch ]; then
        fail branch "$here is checked out; releases are made on $branch"
    elif ! upstream=$(git rev-parse --abbrev-ref '@{upstream}' 2>/dev/null); then
        ok branch "$branch, which has no upstream"
    elif behind=$(git rev-list --count 'HEAD..@{upstream}') && [ "$behind" != 0 ]; then
        fail branch "commits of $upstream that are missing: $behind; git pull --ff-only"
    else
        ok branch "$branch, with every commit of $upstream as of the last fetch"
    fi
}

check_version() {
    if [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        fail version 'a shallow clone does not know the last release: git fetch --unshallow --tags'
    elif [ "$last" ] && ! comes_after "$version" "$last"; then
        fail version "$version does not come after $last, which is released"
    elif comes_after "$present" "$version"; then
        fail version "$version comes before $present, which pyproject.toml has"
    elif [ "$last" ]; then
        ok version "$version comes after $last"
    else
        ok version "$version is the first release"
    fi
}

# towncrier passes over a file whose name it does not know, and has no complaint where there is none at all.
check_changelog() {
    fragments=$(ls changelog.d | grep -vx template.md.jinja || true)
    unknown=$(echo "$fragments" | grep -vE '\.(added|changed|deprecated|removed|fixed|security)\.md$' || true)
    if [ -z "$fragments" ]; then
        fail changelog 'changelog.d/ has no file: say what changed for users'
    elif [ "$unknown" ]; then
        fail changelog "changelog.d/$unknown: no <name>.<category>.md of added, changed, deprecated, removed, fixed, security"
    elif ! grep -Fqx '<!-- releases start here -->' CHANGELOG.md; then
        fail changelog 'CHANGELOG.md has no line "<!-- releases start here -->"'
    elif grep -Fq "## [$version]" CHANGELOG.md; then
        fail changelog "CHANGELOG.md has a heading for $version already"
    else
        ok changelog "files in changelog.d/: $(echo "$fragments" | wc -l | tr -d ' ')"
    fi
}

# The variables on the command line of `make release` are not those of the targets; COMPATIBILITY is in the environment.
run_make() { env -u MAKEFLAGS make --no-print-directory "$@"; }

check_target() {
    if printed=$(run_make "$1" 2>&1); then ok "$1" "$(echo "$printed" | tail -n 1)"
    else fail "$1" "$(echo "$printed" | tail -n 12)"; fi
}

echo "$version$([ "$YES" ] || echo ': a dry run, nothing is changed. YES=1 makes the release.')"
check_tree
check_branch
check_version
check_changelog
for target in compatibility migrations locked; do check_target $target; done
day=$(date -u +%Y-%m-%d)
push="git push --atomic origin $branch $tag"
if [ -z "$YES" ]; then
    echo "It would write \"## [$version] - $day\" into CHANGELOG.md with what \`make changelog\` prints, and $version into"
    echo "pyproject.toml, uv.lock and contracts/; commit that as \"Release $version\", tag it $tag, and leave the push to you:"
    echo "  $push"
fi
if [ $failed != 0 ]; then
    echo "$version may not be released: $failed of the checks failed, nothing is changed"
    exit 1
elif [ -z "$YES" ]; then
    echo "$version may be released"
    exit 0
fi

news() { towncrier build --version "$version" --date "$day" "$@"; }
written='pyproject.toml uv.lock CHANGELOG.md changelog.d contracts'
before=$(git rev-parse HEAD)
undo() {
    git reset --quiet --soft "$before"
    git restore --source="$before" --staged --worktree -- $written
    git clean --quiet -d --force -- contracts
    echo 'release: a step failed, nothing is changed' >&2
}
trap undo EXIT
trap 'exit 1' INT TERM

notes=$(news --draft 2>/dev/null | sed 1d)
uv version --quiet --frozen "$version"
# Only the version: `uv lock` would also look for newer files of the packages. `make locked` is uv's own check of it.
sed -E -i.old "/^name = \"orderflow\"\$/{n;s/^version = .*/version = \"$version\"/;}" uv.lock && rm uv.lock.old
news --yes >/dev/null
run_make contracts locked
git add -- $written
others=$(git status --porcelain | grep -v '^[AMDR] ' | cut -c 4- | paste -sd ' ' -)
[ -z "$others" ] || { echo "release: something else changed meanwhile: $others" >&2; exit 1; }
git commit --quiet --message "Release $version"
printf 'Orderflow %s\n\n%s\n' "$version" "$notes" | git tag --annotate "$tag" --cleanup=whitespace --file=-
trap - EXIT
echo "$version is committed and tagged $tag. Nothing is pushed; that is the next step:"
echo "  $push"
