#!/bin/sh
# Write the random secrets that docker-compose.yml mounts, unless they exist: make-secrets.sh [FOLDER]
#
# Compose mounts a secret file into a container with the owner and mode it has on the host, and every service
# runs as a different user that is not root. So anyone may read the files, but only the owner may enter the folder,
# which no container sees.
set -eu
folder=${1:-$(dirname "$0")/secrets}

random() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }

write() {
  cat > "$folder/$1.new"
  chmod 444 "$folder/$1.new"
  mv "$folder/$1.new" "$folder/$1"
}

umask 077
mkdir -p "$folder"
chmod 700 "$folder"

# The last file of each group is written last: if it exists, the group is complete.
if [ ! -e "$folder/redis-url" ]; then
  password=$(random 32)
  echo "requirepass $password" | write redis.conf
  echo "redis://:$password@redis:6379/0" | write redis-url
fi
if [ ! -e "$folder/index-key" ]; then
  key=$(random 32)
  echo "service: { api_key: \"$key\" }" | write index.yaml
  echo "$key" | write index-key
fi
if [ ! -e "$folder/store-secret-key" ]; then
  echo "memoaized-$(random 6)" | write store-access-key
  random 32 | write store-secret-key
fi
[ -e "$folder/webhook-secret" ] || echo "whsec_$(head -c 32 /dev/urandom | base64)" | write webhook-secret
echo "secrets are in $folder"
