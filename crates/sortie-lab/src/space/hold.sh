# Prepares the namespaces of a lab host as its first process, then holds them until standard
# input closes. $0: the file that gets this process's id and start time, as the machine sees
# them, for the sweep of labs that were killed.
set -e

read -r line < /proc/self/stat
set -- $line
echo "$1 ${22}" > "$0"
mount -t proc proc /proc

# /run is the host's own: default socket and lock paths of two hosts must not collide.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/cgroup /run/new

# /sys shows the host's own links; the machine's cgroups stay reachable.
if [ -d /sys/fs/cgroup ]; then mount --rbind /sys/fs/cgroup /run/cgroup; fi
mount -t sysfs sysfs /sys
if [ -d /sys/fs/cgroup ]; then mount --move /run/cgroup /sys/fs/cgroup; fi

# Sysctls outside net are read-only: dockerd would raise the machine's key limits.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net

# What is made new in these folders is the host's own: /etc/docker, /opt/containerd, /var/lib/NAME.
for folder in /opt /var/lib; do
    mount -t tmpfs -o mode=755 tmpfs /run/new
    for entry in "$folder"/*; do
        copy=/run/new/${entry##*/}
        if [ -L "$entry" ]; then
            cp -P "$entry" "$copy"
        elif [ -d "$entry" ]; then
            mkdir "$copy"
            mount --rbind "$entry" "$copy"
        elif [ -e "$entry" ]; then
            touch "$copy"
            mount --bind "$entry" "$copy"
        fi
    done
    mount --move /run/new "$folder"
done
mount -t tmpfs -o mode=755 tmpfs /run/new
cp -a /etc/. /run/new
mount --move /run/new /etc
rm -rf /run/cgroup /run/new /run/mount

# A first process gets the orphans: `wait` reaps whichever child ends, until this one does.
exec 3<&0
cat <&3 > /dev/null &
echo ready
wait $!
