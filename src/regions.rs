//! Connected components, boundaries and exact distances on voxel masks.
