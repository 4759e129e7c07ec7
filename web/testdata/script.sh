#!/bin/sh
# The script provider of the tests: lets sam in, and tells what it sees.
case "$USERNAME:$PASSWORD" in
  sam:opensesame) printf '{"id": "sam", "name": "Sam Script"}' ;;
  slow:*) touch started; while [ ! -e go ]; do sleep 0.02; done; printf '{"id": "slow", "name": "Slow"}' ;;
  env:*) printf '{"message": "%s"}' "$(env | cut -d= -f1 | sort | tr '\n' ' ')" ;;
  *) printf '{"message": "The script says no."}' ;;
esac
