#!/usr/bin/env bash
# Makes the disk of an ordinary Debian 12 host with systemd, and beside it the kernel and
# initrd that QEMU boots it with. Usage: root.sh OUTPUT-FOLDER
#
# This text is the recipe: its hash names the cached folder (vm-test/root.rs), so that a
# change here makes the disk again. Nothing of Holdfast is in it. The packet filter's tool
# lies outside of every PATH, so that the test can look at rules and the product cannot
# lean on it.
set -euo pipefail
out=$1
tree=$(mktemp -d)
trap 'rm -rf --one-file-system "$tree"' EXIT
mkdir -p "$out"

# The initrd holds what the virtual disk needs and nothing else: emulation reads it slowly.
mmdebstrap --mode=root --variant=minbase --quiet \
  --aptopt='Acquire::Languages "none"' \
  --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
  --essential-hook='printf "MODULES=list\nCOMPRESS=lz4\n" > "$1/etc/initramfs-tools/conf.d/vm"' \
  --essential-hook='printf "virtio_pci\nvirtio_blk\next4\n" > "$1/etc/initramfs-tools/modules"' \
  --include=systemd-sysv,udev,kmod,dbus,apparmor,iproute2,nftables,lz4,initramfs-tools,linux-image-amd64,qemu-guest-agent \
  bookworm "$tree/root"

cd "$tree/root"
echo 'LABEL=hf-root / ext4 errors=remount-ro 0 1' > etc/fstab
echo 127.0.0.1 localhost > etc/hosts
# A host that has been running for long: systemd shall not take this for its first boot.
echo 5f1d3c0a7b6e4f2d9c8b7a6958473625 > etc/machine-id
install -d opt/probe
mv usr/sbin/nft opt/probe/nft
chroot . systemctl --quiet enable systemd-networkd.service
chroot . systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer fstrim.timer e2scrub_reap.service getty@.service serial-getty@.service
# The emulated processor can virtualize; nobody here wants that.
printf 'blacklist %s\n' kvm kvm_amd kvm_intel > etc/modprobe.d/vm.conf
# The agent notes every question it is asked; the console is for what the host says.
install -d etc/systemd/system/qemu-guest-agent.service.d
printf '[Service]\nLogLevelMax=notice\n' > etc/systemd/system/qemu-guest-agent.service.d/quiet.conf
rm -f var/cache/apt/*.bin

cp "$(readlink -f boot/vmlinuz-*)" "$out/vmlinuz"
cp "$(readlink -f boot/initrd.img-*)" "$out/initrd"
cd /
mke2fs -q -F -t ext4 -L hf-root -d "$tree/root" "$out/disk" 6G
