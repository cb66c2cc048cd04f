//! Brings MSD, BraTS, KiTS, ATLAS and DeepMedic folders into nnU-Net layout.
