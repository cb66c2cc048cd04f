//! Weights of another network as the start of this one.
//!
//! What a parameter has to do with the number of channels or of classes is read off its shape: one that changes with a
//! further channel is the network's entrance, one that changes with a further class its head. All others have to be
//! there under the same name and with the same shape.

use std::collections::{BTreeMap, HashMap};

use super::{Parameter, Shape, Weights};
use crate::config::NetworkConfig;

/// Weights by name, in no order.
pub type Named = HashMap<String, Parameter>;

/// What is known of the data that other weights were trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// For every channel of this network the one of the other that it has the name of; `None` where names are not known.
    pub channels: Option<Vec<Option<usize>>>,
    /// Whether the classes are the same ones in the same order; `None` where they are not known.
    pub classes: Option<bool>,
}

/// Weights that begin with those of another network.
#[derive(Clone, Debug, PartialEq)]
pub struct Transferred {
    /// All weights of this network.
    pub weights: Weights,
    /// For every layer, in the order of use, where it comes from.
    pub layers: Vec<(String, Origin)>,
    /// Heads of the other network that this one does not have.
    pub left_out: Vec<String>,
}

/// Where the weights of a layer come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The other network's.
    Copied,
    /// The other network's for some channels, drawn for the others: so many of each.
    Adapted {
        /// Channels with the other network's weights.
        copied: usize,
        /// Channels with weights that were drawn.
        drawn: usize,
    },
    /// Drawn, for this reason.
    Drawn(&'static str),
}

/// What a parameter has to do with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Body,
    /// Its axis of channels.
    Entrance(usize),
    Head,
}

impl Shape {
    /// The initial weights of this network for (channels, classes) that begin with those of another.
    ///
    /// # Errors
    /// What differs, parameter by parameter, where the other network is another one.
    pub fn begin_with(
        &self,
        (channels, classes): (usize, usize),
        config: &NetworkConfig,
        seed: u64,
        (other, known): (&Named, &Known),
    ) -> Result<Transferred, Vec<String>> {
        let mut weights = self.kind().network(channels, classes, config).initialise(seed);
        let roles = self.roles(channels, classes, config);
        let (mut layers, mut problems) = (Vec::<(String, Origin)>::new(), Vec::new());
        for parameter in &mut weights.parameters {
            let role = roles.get(&parameter.name).copied().unwrap_or(Role::Body);
            match take(parameter, role, other, known) {
                Ok(origin) => {
                    let layer = layer_of(&parameter.name);
                    match layers.last_mut() {
                        Some((last, kept)) if last == layer => *kept = kept.clone().joined(origin),
                        _ => layers.push((layer.to_owned(), origin)),
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        for buffer in &mut weights.buffers {
            problems.extend(take(buffer, Role::Body, other, known).err());
        }
        let own = |name: &str| weights.parameters.iter().chain(&weights.buffers).any(|own| own.name == name);
        let heads: Vec<&str> =
            roles.iter().filter(|(_, role)| **role == Role::Head).map(|(name, _)| first_word(name)).collect();
        let further = other.keys().filter(|name| !own(name));
        let (mut left_out, further): (Vec<&String>, Vec<&String>) =
            further.partition(|name| heads.contains(&first_word(name)));
        left_out.sort();
        let mut further: Vec<String> =
            further.into_iter().map(|name| format!("`{name}` is only there")).collect();
        further.sort();
        problems.extend(further);
        let mut left_out: Vec<String> = left_out.into_iter().map(|name| layer_of(name).to_owned()).collect();
        left_out.dedup();
        if problems.is_empty() { Ok(Transferred { weights, layers, left_out }) } else { Err(problems) }
    }

    /// The parameters that are not of the body.
    fn roles(&self, channels: usize, classes: usize, config: &NetworkConfig) -> BTreeMap<String, Role> {
        let shapes = |channels, classes| self.kind().network(channels, classes, config).specifications();
        let own = shapes(channels, classes);
        let mut roles = BTreeMap::new();
        for (one, more) in own.iter().zip(shapes(channels + 1, classes)) {
            if let Some(axis) = one.shape.iter().zip(&more.shape).position(|(one, more)| one != more) {
                roles.insert(one.name.clone(), Role::Entrance(axis));
            }
        }
        for (one, more) in own.iter().zip(shapes(channels, classes + 1)) {
            if one.shape != more.shape {
                roles.insert(one.name.clone(), Role::Head);
            }
        }
        roles
    }
}

impl Transferred {
    /// A line for every range of layers with the same origin.
    pub fn describe(&self) -> Vec<String> {
        let ranges = self.layers.chunk_by(|a, b| a.1 == b.1);
        let line = |range: &[(String, Origin)]| match range {
            [(only, origin)] => format!("{only}: {origin}"),
            [(first, origin), .., (last, _)] => {
                format!("{first} to {last} ({} layers): {origin}", range.len())
            }
            [] => String::new(),
        };
        let mut lines: Vec<String> = ranges.map(line).collect();
        lines.extend((!self.left_out.is_empty()).then(|| format!("left out: {}", self.left_out.join(", "))));
        lines
    }
}

impl Origin {
    /// Of a layer with parameters of two origins: the one that says more.
    fn joined(self, other: Self) -> Self {
        if other == Self::Copied { self } else { other }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Copied => out.write_str("copied"),
            Self::Adapted { copied, drawn } => {
                write!(out, "{copied} channels copied by name, {drawn} drawn anew")
            }
            Self::Drawn(why) => write!(out, "drawn anew, {why}"),
        }
    }
}

/// Fills a parameter that was drawn.
fn take(own: &mut Parameter, role: Role, other: &Named, known: &Known) -> Result<Origin, String> {
    let there = other.get(&own.name);
    let differs =
        |there: &Parameter| format!("`{}` is {:?} here and {:?} there", own.name, own.shape, there.shape);
    match (role, there) {
        (Role::Head, None) => Ok(Origin::Drawn("the other network has no such head")),
        (_, None) => Err(format!("`{}` is only here", own.name)),
        (Role::Head, Some(_)) if known.classes == Some(false) => Ok(Origin::Drawn("its classes differ")),
        (Role::Head, Some(there)) if there.shape != own.shape => {
            Ok(Origin::Drawn("its number of classes differs"))
        }
        (Role::Entrance(axis), Some(there)) => {
            let fixed = |shape: &[usize]| {
                let mut shape = shape.to_vec();
                if axis < shape.len() {
                    shape.remove(axis);
                }
                shape
            };
            if there.shape.len() != own.shape.len() || fixed(&there.shape) != fixed(&own.shape) {
                return Err(differs(there));
            }
            Ok(enter(own, there, axis, known.channels.as_deref()))
        }
        (_, Some(there)) if there.shape != own.shape => Err(differs(there)),
        (_, Some(there)) => {
            own.values.clone_from(&there.values);
            Ok(Origin::Copied)
        }
    }
}

/// Copies the weights of the channels that the other network has.
fn enter(own: &mut Parameter, there: &Parameter, axis: usize, channels: Option<&[Option<usize>]>) -> Origin {
    let (here, others) = (own.shape[axis], there.shape[axis]);
    let in_order: Vec<Option<usize>> = (0..here).map(|channel| (here == others).then_some(channel)).collect();
    let from = channels.unwrap_or(&in_order);
    let after: usize = own.shape[axis + 1..].iter().product();
    let blocks = own.values.chunks_exact_mut((here * after).max(1));
    for (target, source) in blocks.zip(there.values.chunks_exact((others * after).max(1))) {
        for (channel, other) in from.iter().enumerate() {
            if let Some(other) = other.filter(|other| *other < others) {
                let values = &source[other * after..][..after];
                target[channel * after..][..after].copy_from_slice(values);
            }
        }
    }
    let copied = from.iter().flatten().count();
    match copied {
        0 if channels.is_none() => Origin::Drawn("its number of channels differs"),
        0 => Origin::Drawn("no channel has the same name"),
        _ if here == others && from == in_order => Origin::Copied,
        _ => Origin::Adapted { copied, drawn: here - copied },
    }
}

/// `encoder.0.1.conv` of `encoder.0.1.conv.weight`.
fn layer_of(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or(parameter, |(layer, _)| layer)
}

fn first_word(parameter: &str) -> &str {
    parameter.split('.').next().unwrap_or(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::UNetShape;

    fn unet(features: &[usize]) -> Shape {
        let stages = features.len();
        let strides = (0..stages).map(|stage| [if stage == 0 { 1 } else { 2 }; 3]).collect();
        Shape::UNet(UNetShape {
            features: features.to_vec(),
            strides,
            kernels: vec![[3; 3]; stages],
            convolutions: 2,
        })
    }

    fn named(shape: &Shape, channels: usize, classes: usize) -> (Weights, Named) {
        let weights = shape.kind().network(channels, classes, &NetworkConfig::default()).initialise(7);
        let all = weights.parameters.iter().chain(&weights.buffers);
        let named = all.map(|one| (one.name.clone(), one.clone())).collect();
        (weights, named)
    }

    const SAME: Known = Known { channels: None, classes: Some(true) };

    fn begin(
        shape: &Shape,
        data: (usize, usize),
        other: &Named,
        known: &Known,
    ) -> Result<Transferred, Vec<String>> {
        shape.begin_with(data, &NetworkConfig::default(), 1, (other, known))
    }

    #[test]
    fn the_same_network_is_copied_whole() {
        let deepmedic = Shape::DeepMedic(crate::config::Variant::Small.shape());
        for shape in [unet(&[4, 8, 16]), deepmedic] {
            let (weights, other) = named(&shape, 2, 3);
            let known = Known { channels: Some(vec![Some(0), Some(1)]), classes: Some(true) };
            let taken = begin(&shape, (2, 3), &other, &known).unwrap();
            assert_eq!(taken.weights, weights);
            assert!(taken.layers.iter().all(|(_, origin)| *origin == Origin::Copied));
            assert_eq!(taken.describe().len(), 1, "{:?}", taken.describe());
        }
    }

    #[test]
    fn the_head_is_drawn_where_classes_differ_and_channels_go_by_name() {
        for shape in [unet(&[4, 8]), Shape::DeepMedic(crate::config::Variant::Small.shape())] {
            let (_, other) = named(&shape, 2, 3);
            // The first channel is new, the second is the other network's first.
            let known = Known { channels: Some(vec![None, Some(0), Some(1)]), classes: Some(false) };
            let taken = begin(&shape, (3, 3), &other, &known).unwrap();
            let fresh = shape.kind().network(3, 3, &NetworkConfig::default()).initialise(1);
            let mut seen = (0, 0);
            for (own, drawn) in taken.weights.parameters.iter().zip(&fresh.parameters) {
                let there = &other[&own.name];
                if own.name.starts_with("head") || own.name.starts_with("classifier") {
                    assert_eq!(own, drawn, "{}", own.name);
                    seen.0 += 1;
                } else if own.shape == there.shape {
                    assert_eq!(own, there, "{}", own.name);
                } else {
                    let axis = own.shape.iter().zip(&there.shape).position(|(a, b)| a != b).unwrap();
                    let after: usize = own.shape[axis + 1..].iter().product();
                    for (index, value) in own.values.iter().enumerate() {
                        let (block, channel, rest) = (index / (3 * after), index / after % 3, index % after);
                        let wanted = match channel {
                            0 => drawn.values[index],
                            _ => there.values[(block * 2 + channel - 1) * after + rest],
                        };
                        assert_eq!(*value, wanted, "{} {index}", own.name);
                    }
                    seen.1 += 1;
                }
            }
            assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
            let told = taken.describe().join("\n");
            assert!(told.contains("2 channels copied by name, 1 drawn anew"), "{told}");
            assert!(told.contains("drawn anew, its classes differ"), "{told}");
        }
    }

    #[test]
    fn nothing_is_copied_that_is_not_known_to_fit() {
        let shape = unet(&[4, 8]);
        let (_, other) = named(&shape, 2, 3);
        let unknown = Known { channels: None, classes: None };
        let taken = begin(&shape, (1, 2), &other, &unknown).unwrap();
        let told = taken.describe().join("\n");
        assert!(
            told.contains("its number of channels differs") && told.contains("number of classes"),
            "{told}"
        );
        assert_eq!(begin(&shape, (2, 3), &other, &unknown).unwrap().describe().len(), 1);
        // Further heads are no other network.
        let (_, mut deep) = named(&shape, 2, 3);
        let head = deep["head.0.weight"].clone();
        deep.insert("head.1.weight".to_owned(), Parameter { name: "head.1.weight".to_owned(), ..head });
        let taken = begin(&shape, (2, 3), &deep, &SAME).unwrap();
        assert!(taken.describe().contains(&"left out: head.1".to_owned()), "{:?}", taken.describe());
    }

    #[test]
    fn another_network_is_named_by_what_differs() {
        let (_, other) = named(&unet(&[4, 8]), 1, 2);
        let wider = begin(&unet(&[4, 16]), (1, 2), &other, &SAME).unwrap_err().join("\n");
        assert!(
            wider.contains("`encoder.1.0.conv.weight` is [16, 4, 3, 3, 3] here and [8, 4, 3, 3, 3] there"),
            "{wider}"
        );
        let deeper = begin(&unet(&[4, 8, 16]), (1, 2), &other, &SAME).unwrap_err().join("\n");
        assert!(deeper.contains("`encoder.2.0.conv.weight` is only here"), "{deeper}");
        let (_, deep) = named(&unet(&[4, 8, 16]), 1, 2);
        let shallower = begin(&unet(&[4, 8]), (1, 2), &deep, &SAME).unwrap_err().join("\n");
        assert!(shallower.contains("`encoder.2.0.conv.weight` is only there"), "{shallower}");
    }
}
