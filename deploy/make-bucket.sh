#!/bin/sh
# Create a bucket on an S3 server if it does not exist: make-bucket.sh ENDPOINT BUCKET
#
# The keys are read from the files ACCESS_KEY_FILE and SECRET_KEY_FILE and reach curl on its standard input,
# so that they do not appear in the list of processes.
set -eu
endpoint=$1
bucket=$2
empty_sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 # of an empty body

send_request() { # METHOD; prints the status
  printf 'user = "%s:%s"\n' "$(cat "$ACCESS_KEY_FILE")" "$(cat "$SECRET_KEY_FILE")" |
    curl --config - --aws-sigv4 aws:amz:us-east-1:s3 --header "x-amz-content-sha256: $empty_sha256" \
      --max-time 30 --silent --show-error --output /dev/null --write-out '%{http_code}' --request "$1" "$endpoint/$bucket"
}

status=$(send_request PUT)
case $status in
  200) echo "created the bucket $bucket" ;;
  409) echo "the bucket $bucket exists" ;;  # the next request checks that it is ours
  *) echo "PUT $endpoint/$bucket was answered with $status" >&2; exit 1 ;;
esac
status=$(send_request GET)
[ "$status" = 200 ] || { echo "the bucket $bucket cannot be read: $status" >&2; exit 1; }
