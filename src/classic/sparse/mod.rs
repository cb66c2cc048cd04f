//! Sparse representation: a patch of the case as a sum of few known patches; what those are of, it is of.
//!
//! Wright et al., *Robust face recognition via sparse representation*, IEEE TPAMI 31(2), 2009, with the patches of
//! training cases at the same place as atoms (Tong et al., NeuroImage 76, 2013), or with one learned dictionary a class.

use std::path::Path;

use ndarray::{Array2, Array3, Array4, Axis};
use rayon::prelude::*;

pub mod coding;
pub mod learn;
mod library;

use super::arrays::{self, Named, Stored};
use super::fusion::Atlas;
use super::fusion::patch::{dot, offsets};
use super::{Region, Segmented};
use crate::Result;
use crate::image::gaussian::gaussian;
use coding::{Sign, Until, lasso, matching_pursuit};
use learn::Learning;
use library::{Library, Neighbours};

/// Voxels that one thread takes at a time.
const PART: usize = 128;

/// Voxels whose smoothed foreground prior lies between these are looked at; others keep the prior.
const BAND: [f32; 2] = [0.03, 0.97];

/// How a case is represented.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Radius of patches, voxels.
    pub radius: usize,
    /// How far around a voxel patches of training cases are taken from, voxels.
    pub search: usize,
    /// Patches that form the dictionary of a voxel.
    pub candidates: usize,
    /// Cost of a coefficient.
    pub lambda: f64,
    /// From coefficients to a class.
    pub rule: Rule,
}

/// How coefficients become a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Each atom votes with its coefficient.
    Vote,
    /// The class whose atoms alone come nearest to the patch.
    Residual,
}

impl Default for Settings {
    fn default() -> Self {
        Self { radius: 2, search: 1, candidates: 40, lambda: 0.02, rule: Rule::Vote }
    }
}

/// Segments a region by patches of training cases on its grid. Where a patch shows nothing, or no atom has a
/// coefficient, the prior stays. The result does not depend on the number of threads.
///
/// # Panics
/// Where an atlas has another grid, other channels or classes than the region: mistakes of the caller.
pub fn by_cases(region: &Region<'_>, atlases: &[Atlas<'_>], settings: Settings) -> Segmented {
    for atlas in atlases {
        assert_eq!(
            atlas.images.dim(),
            region.images.dim(),
            "an atlas has the channels and grid of the region"
        );
        assert_eq!(atlas.labels.dim(), region.prior.dim(), "an atlas has the classes and grid of the region");
    }
    let library = |images| Library::new(images, region.spacing, settings.radius);
    let case = library(region.images);
    let libraries: Vec<Library<'_>> = atlases.iter().map(|atlas| library(atlas.images)).collect();
    let offsets = offsets(settings.search);
    let classes = region.prior.len_of(Axis(0));
    over_band(region, |voxel, memory| {
        let (own, near): &mut (Vec<f32>, Neighbours) = memory;
        if !case.cut(voxel, own) {
            return None;
        }
        near.find(own, voxel, &libraries, &offsets, settings.candidates);
        let (n, size) = (near.found.len(), own.len());
        let correlations: Vec<f64> = near.found.iter().map(|found| f64::from(found.0)).collect();
        let atom = |at: usize| &near.atoms[at * size..(at + 1) * size];
        let mut gram = vec![1.0; n * n];
        for i in 0..n {
            for j in 0..i {
                let product = f64::from(dot(atom(i), atom(j)));
                (gram[i * n + j], gram[j * n + i]) = (product, product);
            }
        }
        let until = Until { sweeps: 15, change: 1e-4 };
        let x = lasso(&gram, &correlations, settings.lambda, Sign::NonNegative, until);
        let sum: f64 = x.iter().sum();
        if sum <= 0.0 {
            return None;
        }
        let share = |class| (0..n).map(|atom| x[atom] * near.share(atom, class, atlases)).sum::<f64>();
        let votes: Vec<f64> = (0..classes).map(|class| share(class) / sum).collect();
        Some(match settings.rule {
            Rule::Vote => votes,
            Rule::Residual => {
                // |y - D_l x_l|^2, each atom taking part in a class by its share of it.
                let residual = |class| {
                    let own: Vec<f64> =
                        (0..n).map(|atom| x[atom] * near.share(atom, class, atlases)).collect();
                    let row = |i: usize| (0..n).map(|j| gram[i * n + j] * own[j]).sum::<f64>();
                    (0..n).map(|i| own[i] * (row(i) - 2.0 * correlations[i])).sum::<f64>()
                };
                let residuals: Vec<f64> = (0..classes).map(residual).collect();
                let least =
                    (0..classes).fold(0, |least, l| if residuals[l] < residuals[least] { l } else { least });
                (0..classes).map(|class| f64::from(u8::from(class == least))).collect()
            }
        })
    })
}

/// One dictionary a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionaries {
    /// Unit atoms, (atom, voxel of a patch), a class; a class without patches has atoms of 0.
    atoms: Vec<Array2<f64>>,
    /// Atoms that a patch is coded with.
    nonzero: usize,
    /// Radius of the patches, voxels.
    radius: usize,
    /// Mean squared residual of training patches by the dictionary of their own class.
    residual: f64,
}

/// Patches of one class, (patch, voxel of the patch), at voxels (x, y, z) of images (channel, x, y, z); those that show
/// nothing are left out.
pub fn patches(
    images: ndarray::ArrayView4<'_, f32>,
    spacing: [f64; 3],
    radius: usize,
    voxels: &[[u32; 3]],
) -> Array2<f64> {
    Library::new(images, spacing, radius).patches(images.len_of(Axis(0)), voxels)
}

impl Dictionaries {
    /// Learns a dictionary from the patches of each class, cut with this radius. The first atoms are keyed by the seed
    /// and the class alone.
    pub fn learn(patches: &[Array2<f64>], radius: usize, settings: Learning) -> Self {
        let of = |(class, patches): (usize, &Array2<f64>)| {
            learn::learn(patches.view(), settings, &class.to_string())
        };
        let atoms: Vec<Array2<f64>> = patches.iter().enumerate().map(of).collect();
        let (mut sum, mut count) = (0.0, 0);
        for (atoms, patches) in atoms.iter().zip(patches) {
            let codes = learn::code(atoms.view(), patches.view(), settings.nonzero);
            let rest = learn::residual(atoms.view(), patches.view(), &codes);
            sum += rest.iter().map(|value| value * value).sum::<f64>();
            count += patches.nrows();
        }
        // Few patches may all be atoms, which leave nothing.
        let residual = (sum / count.max(1) as f64).max(1e-3);
        Self { atoms, nonzero: settings.nonzero, radius, residual }
    }

    /// The content of a safetensors file. The same dictionaries give the same bytes.
    ///
    /// # Errors
    /// None that a user could cause.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let (atoms, size) = self.atoms.first().map_or((0, 0), Array2::dim);
        let values = self.atoms.iter().flat_map(|atoms| atoms.iter().copied());
        arrays::bytes(&[
            Named::f64("atoms", &[self.atoms.len(), atoms, size], values),
            Named::f64("residual", &[1], [self.residual]),
            Named::u32("nonzero", &[1], [self.nonzero as u32]),
            Named::u32("radius", &[1], [self.radius as u32]),
        ])
    }

    /// Reads [`Self::bytes`]; `path` is for messages.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let stored = Stored::read(bytes, path)?;
        let ([classes, count, size], atoms) = stored.f64("atoms")?;
        let ([one], residual) = stored.f64("residual")?;
        let ([n], nonzero) = stored.u32("nonzero")?;
        let ([r], radius) = stored.u32("radius")?;
        if classes == 0 || count == 0 || size == 0 || atoms.iter().any(|value| !value.is_finite()) {
            return Err(
                stored.damaged("atoms", format!("{classes} dictionaries of {count} atoms of {size} voxels"))
            );
        }
        if [one, n, r] != [1; 3] || nonzero[0] == 0 || !(1..=16).contains(&radius[0]) {
            return Err(stored.damaged("radius", "settings that no fit has"));
        }
        if !(residual[0] > 0.0 && residual[0].is_finite()) {
            return Err(stored.damaged("residual", format!("{} is not above 0", residual[0])));
        }
        let atoms =
            atoms.chunks_exact(count * size).map(|part| Array2::from_shape_vec((count, size), part.to_vec()));
        let atoms: std::result::Result<_, _> = atoms.collect();
        let atoms = atoms.map_err(|e| stored.damaged("atoms", e.to_string()))?;
        Ok(Self { atoms, nonzero: nonzero[0] as usize, radius: radius[0] as usize, residual: residual[0] })
    }

    /// Whether patches of a case with this spacing and number of channels have the dictionaries' size.
    pub fn fit(&self, region: &Region<'_>) -> bool {
        let channels = region.images.len_of(Axis(0));
        let size = Library::new(region.images, region.spacing, self.radius).size(channels);
        self.atoms.len() == region.prior.len_of(Axis(0))
            && self.atoms.iter().all(|atoms| atoms.ncols() == size)
    }

    /// Segments a region: the prior of each class times exp(-r / (2 s)), r the squared residual of the patch by the
    /// class' dictionary and s the mean of training patches.
    ///
    /// # Panics
    /// Where the dictionaries do not [`Self::fit`] the region: a mistake of the caller.
    pub fn segment(&self, region: &Region<'_>) -> Segmented {
        assert!(self.fit(region), "patches of the case have the size of the dictionaries' atoms");
        let case = Library::new(region.images, region.spacing, self.radius);
        let grams: Vec<Vec<f64>> =
            self.atoms.iter().map(|atoms| atoms.dot(&atoms.t()).iter().copied().collect()).collect();
        over_band(region, |[x, y, z], memory| {
            let own: &mut Vec<f32> = memory;
            if !case.whole([x, y, z], own) {
                return None;
            }
            let patch: ndarray::Array1<f64> = own.iter().map(|value| f64::from(*value)).collect();
            let logarithm = |(class, (atoms, gram)): (usize, (&Array2<f64>, &Vec<f64>))| {
                let correlations = atoms.dot(&patch).to_vec();
                let code = matching_pursuit(gram, &correlations, self.nonzero);
                // Least squares: what is explained is x'D'y.
                let explained: f64 = code.iter().map(|(atom, value)| value * correlations[*atom]).sum();
                let prior = f64::from(region.prior[[class, x, y, z]]).max(1e-12);
                prior.ln() - (1.0 - explained).max(0.0) / (2.0 * self.residual)
            };
            let logarithms: Vec<f64> = self.atoms.iter().zip(&grams).enumerate().map(logarithm).collect();
            let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logarithms.iter().map(|value| (value - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            Some(weights.iter().map(|weight| weight / sum).collect())
        })
    }
}

/// The prior, replaced by what `answer` says of voxels in the band where foreground is neither sure nor excluded.
fn over_band<M: Default>(
    region: &Region<'_>,
    answer: impl Fn([usize; 3], &mut M) -> Option<Vec<f64>> + Sync,
) -> Segmented {
    let foreground: Array3<f32> = region.prior.index_axis(Axis(0), 0).mapv(|p| 1.0 - p);
    let smooth = gaussian(foreground.view(), region.spacing, 1.0, [0; 3]);
    let inside = smooth.indexed_iter().filter(|(_, p)| **p > BAND[0] && **p < BAND[1]);
    let voxels: Vec<[usize; 3]> = inside.map(|((x, y, z), _)| [x, y, z]).collect();
    let answers: Vec<Vec<Option<Vec<f64>>>> = voxels
        .par_chunks(PART)
        .map(|voxels| {
            let mut memory = M::default();
            voxels.iter().map(|&voxel| answer(voxel, &mut memory)).collect()
        })
        .collect();
    let mut probabilities: Array4<f32> = region.prior.to_owned();
    for ([x, y, z], answer) in voxels.iter().zip(answers.iter().flatten()) {
        for (class, p) in answer.iter().flatten().enumerate() {
            probabilities[[class, *x, *y, *z]] = *p as f32;
        }
    }
    Segmented { probabilities, notes: Vec::new() }
}
