#!/usr/bin/env bash
# Looks people up in members.txt beside this file. Needs bash and openssl.
#
# Both values stand in double quotes wherever they are used, and nothing is built from
# them that a shell, or anything else, would run. printf is part of the shell: what it
# prints is in no process's arguments, which every user of the machine can read.
set -euo pipefail
declare +x USERNAME PASSWORD # openssl need not see them in its environment
export LC_ALL=C

refuse() {
  printf '{"message": "This is not a member, or not the password."}\n'
  exit 0
}

# json prints a text as a JSON string.
json() {
  local text=${1//[[:cntrl:]]/ }
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$text"
}

# openssl reads one line and looks at 256 bytes of it: a longer password must not be as
# good as its beginning.
[[ $PASSWORD != *$'\n'* && ${#PASSWORD} -le 256 ]] || refuse

# Nobody's hash, so that an unknown name takes as long as a wrong password.
stored='$6$0000000000000000$' id='' shown=''
while IFS=: read -r name hash number person; do
  if [[ "$name" == "$USERNAME" ]]; then
    stored=$hash id=$number shown=$person
  fi
done < <(grep -v '^#' "${BASH_SOURCE[0]%/*}/members.txt")

IFS='$' read -r _ _ salt _ <<<"$stored"
computed=$(printf '%s\n' "$PASSWORD" | openssl passwd -6 -salt "$salt" -stdin)

# These are hashes: how far they agree tells nothing about the password.
[[ -n "$id" && "$computed" == "$stored" ]] || refuse
printf '{"id": %s, "name": %s, "username": %s}\n' "$(json "$id")" "$(json "$shown")" "$(json "$USERNAME")"
