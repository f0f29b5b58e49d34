# Sourced as the first process of new net, mount, UTS, IPC and pid namespaces: makes them a host. What must go afterwards are the
# groups named $1 in each cgroup hierarchy; everything else goes with the processes. $2 is the host's name.
export PATH="$PATH:/usr/sbin:/sbin"

# Each hierarchy is seen from a group of this host's own, so that its groups can collide with nobody's and are found afterwards.
own_part() {
	mkdir "$1/$2"
	for setting in cpuset.cpus cpuset.mems; do
		[[ ! -e $1/$2/$setting ]] || cat "$1/$setting" >"$1/$2/$setting"
	done
	mount --bind "$1/$2" "$1"
}

isolate() {
	local group=$1 root=/sys/fs/cgroup hierarchy
	mount --make-rprivate /
	hostname "${2:-node-a}"
	mount -t tmpfs -o mode=755 tmpfs /run
	if [[ -e $root/cgroup.controllers ]]; then
		sed 's/[^ ]*/+&/g' $root/cgroup.controllers >$root/cgroup.subtree_control
		own_part $root "$group"
	else
		for hierarchy in "$root"/*; do
			[[ ! -e $hierarchy/cgroup.procs || -L $hierarchy ]] || own_part "$hierarchy" "$group"
		done
	fi
	ip link set lo up
}
