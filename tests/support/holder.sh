# The first process of a host of the tests (its pid is 1): sets the host up, says `ready PID-OF-OUTSIDE`, and reaps until it is killed.
# usage: holder.sh DIR GROUP
set -euo pipefail
dir=$1
. "$(dirname "$0")/isolate.sh"
isolate "$2"

mkdir -p "$dir/etc-upper" "$dir/etc-work"
mount -t overlay -o "lowerdir=/etc,upperdir=$dir/etc-upper,workdir=$dir/etc-work" overlay /etc
mkdir -p /etc/orch
rm -f /etc/resolv.conf
echo "nameserver 10.99.0.1" >/etc/resolv.conf

exec 3< <(exec unshare --net bash -c 'echo $$; exec sleep infinity')
read -r outside <&3
ip link add eth0 type veth peer name eth0 netns "$outside"
ip address add 10.99.0.2/24 dev eth0
ip link set eth0 up
nsenter --net="/proc/$outside/ns/net" sh -c 'ip link set lo up; ip address add 10.99.0.1/24 dev eth0; ip link set eth0 up'
echo "ready $outside"
sleep infinity &
wait
