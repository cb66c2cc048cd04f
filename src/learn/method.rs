//! The methods against overfitting under class imbalance, for a data set. Their settings stand in
//! `config/method.rs`.
//!
//! Every method has a symmetric form, which treats all classes alike, and an asymmetric one, which treats the
//! *rare* classes differently (Li et al., MICCAI 2019 and IEEE TMI 2020):
//!
//! | method | symmetric | asymmetric |
//! |---|---|---|
//! | margin | a margin is taken off the logit of every true class | only off that of rare classes |
//! | focal | the loss of every class is attenuated | that of rare classes is not |
//! | adversarial | the direction increases the loss of all voxels | only that of rare voxels |
//! | mixup | soft labels | a mixture with enough of a rare class is that class; other mixtures are ignored |
//! | augmentation | every patch is augmented | patches not centred on a rare class only sometimes |
//!
//! Which classes are rare is one list for all of them.

use segen_kernels::VoxelLoss;

use crate::config::method::{MethodConfig, Mode};
use crate::config::{Config, Conventions};
use crate::run::events::Strength;
use crate::{Error, Result};

/// Methods for a data set: settings, and which of its classes are rare.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// The settings.
    pub config: MethodConfig,
    /// Details that the published programs have otherwise.
    pub conventions: Conventions,
    /// One per class, background first.
    pub rare: Vec<bool>,
}

impl Method {
    /// Finds the rare classes among `classes` (names, background first).
    ///
    /// # Errors
    /// Where `rare` names an unknown class or the background, or none although a method is asymmetric.
    pub fn resolve(config: &Config, classes: &[String]) -> Result<Self> {
        let (config, conventions) = (&config.method, config.conventions());
        let field = "method.rare";
        let rare = match &config.rare {
            None => (0..classes.len()).map(|class| class > 0).collect(),
            Some(names) => {
                let mut rare = vec![false; classes.len()];
                for name in names {
                    let foreground =
                        classes.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join("`, `");
                    match classes.iter().position(|class| class == name) {
                        Some(0) => {
                            return Err(Error::config(
                                field,
                                format!("`{name}` is the background, which is never rare"),
                                format!("name foreground classes: `{foreground}`"),
                            ));
                        }
                        Some(class) => rare[class] = true,
                        None => {
                            return Err(Error::config(
                                field,
                                format!("the data set has no class `{name}`"),
                                format!("its foreground classes are `{foreground}`"),
                            ));
                        }
                    }
                }
                rare
            }
        };
        if config.is_asymmetric() && !rare.contains(&true) {
            return Err(Error::config(
                field,
                "no class is rare, but a method is asymmetric",
                "name at least one foreground class, or leave `method.rare` out for all of them",
            ));
        }
        Ok(Self { config: config.clone(), conventions, rare })
    }

    /// No method, for `classes` classes.
    pub fn none(classes: usize) -> Self {
        Self {
            config: MethodConfig::default(),
            conventions: Conventions::OWN,
            rare: (0..classes).map(|class| class > 0).collect(),
        }
    }

    /// Margin and focal exponent per class, before the first epoch where they follow a gap.
    pub fn voxel_loss(&self) -> VoxelLoss {
        let (margin, focal) = (self.config.margin, self.config.focal);
        if self.config.auto.on {
            return self.voxel_loss_at(&Strength::default());
        }
        let list = |mode: Mode, value: f64, when_rare: bool| match mode {
            Mode::Off => Vec::new(),
            Mode::Symmetric => vec![value as f32; self.rare.len()],
            Mode::Asymmetric => {
                self.rare.iter().map(|&rare| if rare == when_rare { value as f32 } else { 0.0 }).collect()
            }
        };
        VoxelLoss {
            margin: list(margin.mode, margin.value, true),
            focal: list(focal.mode, focal.gamma, false),
            weight: Vec::new(),
            epsilon: self.conventions.epsilon as f32,
        }
    }

    /// As [`Self::voxel_loss`], of methods that act as strongly as this.
    pub fn voxel_loss_at(&self, strength: &Strength) -> VoxelLoss {
        let focal = self.rare.iter().map(|&rare| if rare { 0.0 } else { strength.gamma as f32 }).collect();
        let margin = strength.margin.iter().map(|&margin| margin as f32).collect();
        VoxelLoss { margin, focal, weight: Vec::new(), epsilon: self.conventions.epsilon as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::method::{Focal, Margin};

    #[test]
    fn rare_classes_are_found_by_name() {
        let classes = ["background", "kidney", "tumour"].map(str::to_owned);
        let config = |rare: &[&str]| Config {
            method: MethodConfig {
                rare: Some(rare.iter().map(|&name| name.to_owned()).collect()),
                margin: Margin { mode: Mode::Asymmetric, value: 1.0 },
                focal: Focal { mode: Mode::Asymmetric, gamma: 2.0 },
                ..MethodConfig::default()
            },
            ..Config::default()
        };
        let method = Method::resolve(&config(&["tumour"]), &classes).unwrap();
        assert_eq!(method.rare, [false, false, true]);
        assert_eq!(method.voxel_loss().margin, [0.0, 0.0, 1.0]);
        assert_eq!(method.voxel_loss().focal, [2.0, 2.0, 0.0]);
        assert_eq!(Method::resolve(&Config::default(), &classes).unwrap().rare, [false, true, true]);
        for (names, wanted) in [
            (vec!["tumor"], "`kidney`, `tumour`"),
            (vec!["background"], "never rare"),
            (vec![], "no class is rare"),
        ] {
            let error = Method::resolve(&config(&names), &classes).unwrap_err().to_string();
            assert!(error.contains("method.rare") && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn the_forms_meet_where_every_class_is_rare() {
        let with = |mode: Mode| {
            let mut method = Method::none(3);
            method.rare = vec![true; 3];
            method.config.margin.mode = mode;
            method.config.focal.mode = mode;
            method.voxel_loss()
        };
        let (symmetric, asymmetric) = (with(Mode::Symmetric), with(Mode::Asymmetric));
        assert_eq!(asymmetric.margin, symmetric.margin);
        assert_eq!(symmetric.focal, [4.0; 3]);
        assert_eq!(asymmetric.focal, [0.0; 3], "focal loss that spares every class is cross-entropy");
    }
}
