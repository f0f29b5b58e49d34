#!/usr/bin/env bash
# Makes what the virtual machines boot: Debian's cloud kernel, a first root that finds the disk, and the disk: busybox and the executable.
# usage: build.sh ORCH OUT
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
here=$(cd "$(dirname "$0")" && pwd)
orch=$1 out=$2
mkdir -p "$out"

# The kernel's package, unpacked and not installed: this machine's boot is none of our business.
if [[ ! -e $out/kernel/vmlinuz ]]; then
	package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
	rm -rf "$out/kernel" "$out/unpacked"
	mkdir -p "$out/unpacked"
	(cd "$out" && apt-get download -qq "$package" && dpkg-deb -x "$package"_*.deb unpacked && rm -f "$package"_*.deb)
	mkdir "$out/kernel"
	mv "$out"/unpacked/lib/modules "$out/kernel/modules"
	mv "$out"/unpacked/boot/vmlinuz-* "$out/kernel/vmlinuz"
	rm -rf "$out/unpacked"
fi
version=$(basename "$out"/kernel/modules/*)
modules=$out/kernel/modules/$version

tree() {
	local root=$1
	rm -rf "$root"
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/local/bin,etc,proc,sys,dev,run,tmp,root,var/lib,lib/modules}
	cp "$(command -v busybox)" "$root/bin/busybox"
	"$root/bin/busybox" --list-full | while read -r path; do
		[[ -e $root/$path ]] || { mkdir -p "$root/$(dirname "$path")" && ln -s /bin/busybox "$root/$path"; }
	done
}

# The first root: as much as it takes to see the disk.
first=$out/first
tree "$first"
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	file=$(find "$modules" -name "$name.ko" | head -n1)
	[[ -z $file ]] || cp "$file" "$first/lib/modules/"
done
cp "$here/first.sh" "$first/init"
chmod 755 "$first/init"
(cd "$first" && find . | busybox cpio -o -H newc 2>/dev/null) >"$out/first.cpio"

# The disk.
root=$out/root
tree "$root"
install -m 755 "$here/init.sh" "$root/sbin/init-orch"
strip -o "$root/usr/local/bin/orch" "$orch" 2>/dev/null || cp "$orch" "$root/usr/local/bin/orch"
mkdir -p "$root/lib/modules/$version/kernel"
for part in net lib crypto drivers/net fs/overlayfs; do
	mkdir -p "$root/lib/modules/$version/kernel/$(dirname "$part")"
	cp -a "$modules/kernel/$part" "$root/lib/modules/$version/kernel/$part"
done
cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
depmod=$(command -v depmod || echo "busybox depmod")
$depmod -b "$root" "$version"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
printf 'ID=orch-test\nPRETTY_NAME="A machine of the tests"\n' >"$root/etc/os-release"
: >"$root/etc/resolv.conf"

"$here/../support/busybox.sh" "$root/root/busybox.tar"
printf '#!/bin/sh\nexec orch kubectl "$@"\n' >"$root/usr/local/bin/kubectl"
chmod 755 "$root/usr/local/bin/kubectl"

rm -f "$out/disk.img"
mkfs.ext4 -q -F -E lazy_itable_init=1 -d "$root" "$out/disk.img" 3G
rm -rf "$root" "$first"
