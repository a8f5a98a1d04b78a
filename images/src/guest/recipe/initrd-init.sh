#!/bin/busybox sh
# The guest's first program: loads drivers, stacks the root, hands over. Anything that fails is printed on the
# console and ends the machine, so that a broken boot is a clear error and not a hang.
export PATH=/bin
/bin/busybox --install -s /bin

die() {
    echo "mooring-init: $*"
    poweroff -f
}

mount -t proc proc /proc || die "mounting /proc"
mount -t sysfs sysfs /sys || die "mounting /sys"
mount -t devtmpfs devtmpfs /dev || die "mounting /dev"

while read -r module; do
    insmod "/modules/$module" || die "loading $module"
done </modules/order

# The device whose serial number is $1. Disks appear while their drivers probe, so the root is waited for.
disk() {
    for block in /sys/block/vd*; do
        if [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ]; then
            echo "/dev/${block##*/}"
            return 0
        fi
    done
    return 1
}

tries=0
until root=$(disk root); do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || die "no disk with serial number root"
    usleep 100000
done

mkdir -p /base /rw /newroot
mount -t erofs -o ro "$root" /base || die "mounting $root"

# Layers in order; a later one covers an earlier one.
lower=/base
number=0
while layer=$(disk "layer$number"); do
    mkdir -p "/layer$number"
    mount -t erofs -o ro "$layer" "/layer$number" || die "mounting $layer"
    lower="/layer$number:$lower"
    number=$((number + 1))
done

mount -t tmpfs -o mode=755,size=50% tmpfs /rw || die "mounting the writable layer"
mkdir /rw/upper /rw/work
mount -t overlay -o "lowerdir=$lower,upperdir=/rw/upper,workdir=/rw/work" overlay /newroot ||
    die "stacking the root"

mount --move /dev /newroot/dev
mount --move /proc /newroot/proc
mount --move /sys /newroot/sys
exec switch_root /newroot /sbin/init || die "no /sbin/init in the root"
