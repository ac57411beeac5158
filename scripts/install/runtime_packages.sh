#!/usr/bin/env bash
# Prints the packages that the built Caffe and its .venv run on: Python, and the libraries that Caffe is linked with,
# which each release of a system names anew. The Dockerfile runs it where apt-packages.txt is installed.
set -euo pipefail
lib=/usr/lib/$(c++ -print-multiarch)
libraries=(
    "$lib"/lib{boost_filesystem,boost_python3*,boost_thread,dnnl,gflags,glog,hdf5_serial,hdf5_serial_hl,lmdb}.so
    "$lib"/lib{opencv_core,opencv_imgcodecs,opencv_imgproc,protobuf}.so
    "$lib"/openblas-openmp/libopenblas.so "$lib"/libgomp.so.1
)
echo python3
readlink -e "${libraries[@]}" | xargs dpkg-query --search | cut -d : -f 1 | sort -u
