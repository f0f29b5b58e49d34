# The first process of a host of the tests (its pid is 1): sets the host up but for its link, says `ready`, and reaps until it is killed.
# usage: holder.sh DIR GROUP NAME
set -euo pipefail
dir=$1
. "$(dirname "$0")/isolate.sh"
isolate "$2" "$3"

mkdir -p "$dir/etc-upper" "$dir/etc-work"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc-upper,workdir=$dir/etc-work" overlay /etc
mkdir -p /etc/orch
rm -f /etc/resolv.conf
echo "nameserver 10.99.0.1" >/etc/resolv.conf
echo ready
sleep infinity &
wait
