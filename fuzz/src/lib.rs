//! Fuzz targets on everything that decodes hostile bytes.
