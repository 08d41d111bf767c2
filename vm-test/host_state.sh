# Prints the state of a host, one fact a line; see host_state.rs.
cd /
# What systemd and the kernel write by themselves while time passes is left out, and what
# only the host's package manager writes to: it is most of the disk.
find / -xdev \( -path /var/log -o -path /var/cache -o -path /var/lib/systemd -o -path /var/tmp \
  -o -path /usr/share -o -path /usr/lib/modules -o -path /var/lib/dpkg \
  -o -path /tmp -o -path /lost+found -o -path /etc/.updated -o -path /var/.updated \) -prune -o \
  \( -type d -printf 'dir %m %U:%G %p\n' \) -o \( -type l -printf 'link %p -> %l\n' \) -o \
  \( -type f -not -path '/etc/*' -printf 'file %m %U:%G %s %T@ %p\n' \) -o \
  \( -type f -path '/etc/*' -printf 'file %m %U:%G %s %p\n' \) -o \( -printf 'other %y %m %p\n' \)
find /etc -type f -exec sha256sum {} +
find /run -xdev \( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/user \) \
  -prune -o -printf 'run %y %m %U:%G %p\n'
awk '$3 != "binfmt_misc" && $1 != "ramfs" {print "mount", $2, $3}' /proc/mounts
systemctl list-unit-files --plain --no-legend --no-pager | sed 's/^/unit-file /'
systemctl list-units --plain --no-legend --no-pager --all --type=service,slice,socket,timer,mount |
  awk '$1 !~ /^(systemd-|user|binfmt|proc-sys|session)/ {print "unit", $1, $2}'
# systemd keeps a group for a mount of its boot and none for one that was made later.
find /sys/fs/cgroup -type d -printf 'cgroup %p\n' | grep -v -e '\.mount$' -e user.slice -e 'systemd-' -e session
ip -o link | sed -E 's/^[0-9]+: //; s/^/ip-link /'
ip -o addr | sed -E 's/^[0-9]+: //; s/(valid|preferred)_lft [^ ]+//g; s/^/address /'
ip route show table all | sed 's/^/route /'
ip -6 route show table all | sed 's/^/route6 /'
ip rule | sed 's/^/rule /'
/opt/probe/nft list ruleset | sed 's/^/nft /'
grep -rs '' /proc/sys/fs/inotify /proc/sys/net/core /proc/sys/net/ipv4 /proc/sys/net/ipv6 \
  /proc/sys/vm/overcommit_memory /proc/sys/vm/swappiness /proc/sys/vm/max_map_count /proc/sys/kernel/panic /proc/sys/kernel/pid_max |
  grep -v -e /neigh/ -e stat_refresh -e flush -e 'ipv4/tcp_.*key' | sed 's/^/sysctl /'
find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -printf '%l\n' 2>/dev/null |
  grep -v -E '/(bash|find|sort|sleep|mawk|grep|sed|systemd-[a-z]*|readlink|udevadm|qemu-ga)$' | sort -u |
  sed 's/^/process /'
