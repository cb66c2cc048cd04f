//! The operators on GPU devices: compositions of burn's own.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_cubecl::CubeBackend;

use crate::ops::NetworkOps;

impl NetworkOps for CubeBackend {}
impl<C: CheckpointStrategy> NetworkOps for Autodiff<CubeBackend, C> {}
