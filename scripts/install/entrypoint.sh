#!/bin/sh
# The container's entrypoint: makes the working folders on /data, which Caffe does not do, puts the
# distilled starts there, and runs the command.
if [ -w /data ]; then
    mkdir -p /data/weights /data/runs /data/results
    cp -rn /opt/breast-mass/starts /data/results/
else
    echo "warning: user $(id -u) cannot write to /data, where data, weights, runs and results lie:" \
        "give docker run --user with the number of the folder's owner" >&2
fi
exec "$@"
