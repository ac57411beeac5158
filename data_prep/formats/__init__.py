"""Single file formats: LJPEG, DICOM, ordinary images, optical density, mask to box."""
