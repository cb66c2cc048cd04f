//! Networks of operators, run on the kernels and in f64.

use segen_kernels::{Array, Recording};

use crate::operator::Operator;
use crate::reference::Exact;
use crate::support::*;

/// A node of a network.
#[derive(Clone, Debug)]
enum Node {
    Leaf(Tensor),
    Constant(Tensor),
    Step(Operator, Vec<usize>),
}

/// Operators in the order in which they run. The last step is the end, whose slopes are given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    nodes: Vec<Node>,
    shapes: Vec<Vec<usize>>,
    slopes: Vec<f32>,
}

/// A forward pass of the kernels.
pub(crate) struct Forward {
    recording: Recording,
    end: Array,
    slopes: Vec<f32>,
    measured: Vec<Vec<f32>>,
}

impl Forward {
    /// The end, the gradients of all leaves, and what batch norms measured.
    pub(crate) fn backward(self) -> Vec<Vec<f32>> {
        let mut results = vec![self.end.to_host()];
        results.extend(self.recording.backward(vec![(self.end, self.slopes)]));
        results.extend(self.measured);
        results
    }
}

impl Network {
    /// One operator, all inputs leaves, slopes given.
    pub(crate) fn of(operator: Operator, inputs: &[Tensor], slopes: &Tensor) -> Self {
        let mut network = Self::default();
        let inputs: Vec<usize> = inputs.iter().map(|input| network.leaf(input.clone())).collect();
        let end = network.apply(operator, &inputs);
        assert_eq!(network.shape(end), slopes.shape);
        network.slopes = slopes.values.clone();
        network
    }

    /// As [`Self::of`] with random slopes.
    pub(crate) fn random(operator: Operator, inputs: &[Tensor], random: &mut Random) -> Self {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| &input.shape[..]).collect();
        let slopes = random.slopes(&operator.shape(&shapes));
        Self::of(operator, inputs, &slopes)
    }

    fn push(&mut self, node: Node, shape: Vec<usize>) -> usize {
        self.nodes.push(node);
        self.shapes.push(shape);
        self.nodes.len() - 1
    }

    pub(crate) fn leaf(&mut self, tensor: Tensor) -> usize {
        let shape = tensor.shape.clone();
        self.push(Node::Leaf(tensor), shape)
    }

    pub(crate) fn constant(&mut self, tensor: Tensor) -> usize {
        let shape = tensor.shape.clone();
        self.push(Node::Constant(tensor), shape)
    }

    pub(crate) fn apply(&mut self, operator: Operator, inputs: &[usize]) -> usize {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| &self.shapes[*input][..]).collect();
        let shape = operator.shape(&shapes);
        self.push(Node::Step(operator, inputs.to_vec()), shape)
    }

    pub(crate) fn shape(&self, node: usize) -> &[usize] {
        &self.shapes[node]
    }

    /// Ends the network with given slopes.
    pub(crate) fn with_slopes(self, slopes: Vec<f32>) -> Self {
        Self { slopes, ..self }
    }

    /// Ends the network with random slopes.
    pub(crate) fn ended(self, random: &mut Random) -> Self {
        let slopes = random.slopes(self.shapes.last().unwrap()).values;
        self.with_slopes(slopes)
    }

    /// The same with only those inputs leaves of which `wanted` says so; the others are constants.
    pub(crate) fn with_leaves(&self, wanted: impl Fn(usize) -> bool) -> Self {
        let mut network = self.clone();
        for (index, node) in network.nodes.iter_mut().enumerate() {
            if let Node::Leaf(tensor) = node
                && !wanted(index)
            {
                *node = Node::Constant(tensor.clone());
            }
        }
        network
    }

    /// The same with one value of a node, a leaf, larger by `step`.
    pub(crate) fn moved(&self, node: usize, value: usize, step: f32) -> Self {
        let mut network = self.clone();
        let Node::Leaf(tensor) = &mut network.nodes[node] else { panic!("no leaf") };
        tensor.values[value] += step;
        network
    }

    /// What the gradients are of: the sum of the end's values times their slopes, by the kernels.
    pub(crate) fn sum(&self) -> f64 {
        let forward = self.forward();
        let end = forward.end.to_host();
        end.iter().zip(&self.slopes).map(|(value, slope)| f64::from(*value) * f64::from(*slope)).sum()
    }

    pub(crate) fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Step(operator, _) => Some(operator),
            Node::Leaf(_) | Node::Constant(_) => None,
        })
    }

    /// Runs the operators of the kernels.
    pub(crate) fn forward(&self) -> Forward {
        let recording = Recording::new();
        let mut measured = vec![];
        let mut arrays: Vec<Array> = vec![];
        for (node, shape) in self.nodes.iter().zip(&self.shapes) {
            let array = match node {
                Node::Leaf(tensor) => recording.leaf(tensor.array()),
                Node::Constant(tensor) => tensor.array(),
                Node::Step(operator, inputs) => {
                    let inputs: Vec<Array> = inputs.iter().map(|input| arrays[*input].clone()).collect();
                    operator.run(&inputs, &mut measured)
                }
            };
            assert_eq!(array.shape(), shape);
            arrays.push(array);
        }
        let end = arrays.pop().unwrap();
        Forward { recording, end, slopes: self.slopes.clone(), measured }
    }

    /// The end, the gradients of all leaves, and what batch norms measured, by the kernels.
    pub(crate) fn run(&self) -> Vec<Vec<f32>> {
        self.forward().backward()
    }

    /// The same in f64, without the kernels.
    pub(crate) fn exact(&self) -> Vec<Vec<f64>> {
        let mut measured = vec![];
        let mut values: Vec<Exact> = vec![];
        for node in &self.nodes {
            let value = match node {
                Node::Leaf(tensor) | Node::Constant(tensor) => Exact::from(tensor),
                Node::Step(operator, inputs) => {
                    let inputs: Vec<&Exact> = inputs.iter().map(|input| &values[*input]).collect();
                    measured.extend(operator.measured(&inputs));
                    operator.exact(&inputs)
                }
            };
            values.push(value);
        }
        let mut gradients: Vec<Vec<f64>> = values.iter().map(|value| vec![0.0; value.values.len()]).collect();
        *gradients.last_mut().unwrap() = self.slopes.iter().map(|slope| f64::from(*slope)).collect();
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let Node::Step(operator, inputs) = node else { continue };
            let exact: Vec<&Exact> = inputs.iter().map(|input| &values[*input]).collect();
            let parts = operator.exact_gradients(&exact, &gradients[index]);
            assert_eq!(parts.len(), inputs.len());
            for (input, part) in inputs.iter().zip(parts) {
                assert_eq!(gradients[*input].len(), part.len());
                gradients[*input].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        let mut results = vec![values.pop().unwrap().values];
        for (node, gradient) in self.nodes.iter().zip(gradients) {
            if matches!(node, Node::Leaf(_)) {
                results.push(gradient);
            }
        }
        results.extend(measured);
        results
    }

    /// Compares the kernels on every path, in f32, with f64.
    pub(crate) fn compare(&self, what: &str, tolerance: f64) {
        let expected = self.exact();
        for path in paths() {
            assert_close(path, what, &on(path).scoped(|| self.run()), &expected, tolerance);
        }
    }
}

/// Compares one operator, all inputs leaves, with f64 on every path.
pub(crate) fn compare(operator: Operator, inputs: &[Tensor], tolerance: f64, random: &mut Random) {
    let shapes: Vec<&Vec<usize>> = inputs.iter().map(|input| &input.shape).collect();
    let what = format!("{operator:?} of {shapes:?}");
    Network::random(operator, inputs, random).compare(&what, tolerance);
}
