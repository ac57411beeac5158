# Finds OpenCV 4 from its headers and libraries: Debian ships OpenCV's CMake config only with the full libopencv-dev
# (350 MB more), and Caffe needs three small parts of it.
find_path(OpenCV_INCLUDE_DIRS opencv2/core.hpp PATH_SUFFIXES opencv4)
foreach(part core imgproc imgcodecs)
  find_library(OpenCV_${part}_LIBRARY opencv_${part})
  list(APPEND OpenCV_LIBS ${OpenCV_${part}_LIBRARY})
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenCV DEFAULT_MSG
  OpenCV_INCLUDE_DIRS OpenCV_core_LIBRARY OpenCV_imgproc_LIBRARY OpenCV_imgcodecs_LIBRARY)
