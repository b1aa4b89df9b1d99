#!/bin/sh
# Install a Debian package as root; otherwise print the command that installs it.
set -eu
package=$1
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing $package"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package"; } >/dev/null
  # The package may have started a system service, which memoAIzed does not use: it starts its own.
  exit 0
fi
echo "$package is missing. Install it, then try again:" >&2
echo "  sudo apt-get install $package      (Debian, Ubuntu)" >&2
echo "  brew install ${package%-server}      (macOS)" >&2
exit 1
