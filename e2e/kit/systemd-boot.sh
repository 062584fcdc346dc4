#!/bin/sh
# Becomes systemd on a machine of its own: in new namespaces, with a root that is an overlay over this machine's files.
# Nothing of the machine is written. systemd-boot.sh MODE DIRECTORY GROUPS [SHOWN]...
#   MODE       v2 or hybrid
#   DIRECTORY  an empty one for the overlay
#   GROUPS     files cgroup.procs of the groups that are its whole tree, one line each; empty: it is in them by now
#   SHOWN      directories of this machine that it sees as they are
set -e
mode=$1 base=$2 groups=$3
if [ -n "$groups" ]; then
  shift 3
  # 0 is whoever writes. The process that waits for us stays outside: v2 wants no process in a group with others below.
  for file in $groups; do
    dir=${file%/*}
    # With v1 a new group may use no processor until it is told which.
    if [ -e "$dir/../cpuset.cpus" ]; then
      for what in cpus mems; do cat "$dir/../cpuset.$what" >"$dir/cpuset.$what"; done
    fi
    echo 0 >"$file"
  done
  exec unshare --cgroup sh "$0" "$mode" "$base" '' "$@"
fi
shift 3
mount -t tmpfs -o size=1g tmpfs "$base"
mkdir "$base/up" "$base/work" "$base/root"
root=$base/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/up,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
for dir in run tmp; do mount -t tmpfs tmpfs "$root/$dir"; done
mkdir "$root/run/lock"
for dir; do
  mkdir -p "$root$dir"
  mount --rbind "$dir" "$root$dir"
done
if [ "$mode" = v2 ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/unified" "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  # systemd mounts all controllers that it reads of, for the whole kernel: it reads of those only that are mounted.
  awk 'NR == 1 || $2 > 0' /proc/cgroups >"$base/cgroups"
  for name in $(awk 'NR > 1 && $2 > 0 { print $1 }' /proc/cgroups); do
    mkdir "$root/sys/fs/cgroup/$name"
    mount -t cgroup -o "$name" cgroup "$root/sys/fs/cgroup/$name"
  done
  mount --bind "$base/cgroups" "$root/proc/cgroups"
fi
ip link set lo up
units=$root/etc/systemd/system
mkdir -p "$units"
printf '[Unit]\nRequires=dbus.service\nAfter=dbus.service\nAllowIsolate=yes\n' >"$units/shoal-e2e.target"
for unit in systemd-udevd.service systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
  ln -sf /dev/null "$units/$unit"
done
cd "$root"
mkdir .old
pivot_root . .old
cd /
umount -l /.old
container=shoal exec /lib/systemd/systemd --system --unit=shoal-e2e.target --log-target=null --show-status=no
