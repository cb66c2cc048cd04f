//! Tests of `segen::policy`: distributions, derivatives, and the closed forms of the toy problem.

use segen::augment::Affine;
use segen::config::policy::{PolicyConfig, PolicyName, Start, Targets};
use segen::config::published::{Conventions, Estimator, Repeats};
use segen::config::{Length, NameOrFile, Schedule};
use segen::data::dataset::Sides;
use segen::policy::gumbel::{
    conditional, gumbel, highest, log_sum_exp, sample, score_function, softmax, straight_through,
};
use segen::policy::learn::{Drawn, Learner, alignments, gradient, leave_one_out};
use segen::policy::operations::{Context, composed, single};
use segen::policy::{Chosen, Policy};
use segen::rng::generator;

#[test]
fn perturbed_logits_draw_from_the_softmax() {
    let logits = [0.3, -1.2, 2.0, 0.0, -4.0];
    let expected = softmax(&logits);
    let draws = 60_000;
    let mut counts = [0.0; 5];
    let mut random = generator(5, &["draws"]);
    (0..draws).for_each(|_| counts[sample(&logits, &mut random)] += 1.0);
    for (count, p) in counts.into_iter().zip(expected) {
        let error = (p * (1.0 - p) / f64::from(draws)).sqrt();
        assert!((count / f64::from(draws) - p).abs() < 5.0 * error, "{count} instead of {p}");
    }
}

/// Largest difference of the distribution functions of two samples.
fn kolmogorov_smirnov(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let share = |values: &[f64], at: f64| values.partition_point(|v| *v <= at) as f64 / values.len() as f64;
    a.iter().chain(&b).map(|&at| (share(&a, at) - share(&b, at)).abs()).fold(0.0, f64::max)
}

#[test]
fn conditional_scores_are_those_that_rejection_would_find() {
    let logits = [0.3, -1.2, 1.0, -0.5];
    let chosen = 1;
    let draws = 8_000;
    let mut random = generator(6, &["conditional"]);
    let exact: Vec<Vec<f64>> = (0..draws).map(|_| conditional(&logits, chosen, &mut random)).collect();
    assert!(exact.iter().all(|scores| highest(scores) == chosen));
    let mut rejected = Vec::new();
    while rejected.len() < draws {
        let scores: Vec<f64> = logits.iter().map(|logit| logit + gumbel(&mut random)).collect();
        if highest(&scores) == chosen {
            rejected.push(scores);
        }
    }
    for j in 0..logits.len() {
        let column = |scores: &[Vec<f64>]| scores.iter().map(|s| s[j]).collect::<Vec<f64>>();
        let distance = kolmogorov_smirnov(column(&exact), column(&rejected));
        // Two samples of n: at the 0.01 % level the distance stays below 2.23 sqrt(2 / n).
        assert!(distance < 2.23 * (2.0 / draws as f64).sqrt(), "score {j}: {distance}");
    }
    // Whatever was chosen, the highest score is a Gumbel number about log_sum_exp.
    let top: Vec<f64> = exact.iter().map(|scores| scores[chosen]).collect();
    let plain = (0..draws).map(|_| log_sum_exp(&logits) + gumbel(&mut random)).collect();
    assert!(kolmogorov_smirnov(top, plain) < 2.23 * (2.0 / draws as f64).sqrt());
    // A choice that had become impossible by now is redrawn at once.
    let far = conditional(&[0.0, -600.0], 1, &mut random);
    assert!(far.iter().all(|s| s.is_finite()) && highest(&far) == 1);
}

#[test]
fn weights_have_the_derivative_of_the_softmax_and_it_sums_to_zero() {
    let scores = [0.4, -0.3, 1.7, 0.2];
    for chosen in 0..4 {
        let ours = straight_through(&scores, chosen);
        assert!(ours.iter().sum::<f64>().abs() < 1e-15);
        for j in 0..4 {
            let at = |h: f64| {
                let mut moved = scores;
                moved[j] += h;
                softmax(&moved)[chosen]
            };
            assert!((ours[j] - (at(1e-5) - at(-1e-5)) / 2e-5).abs() < 1e-9);
            let log = |h: f64| {
                let mut moved = scores;
                moved[j] += h;
                softmax(&moved)[chosen].ln()
            };
            let score = score_function(&scores, chosen);
            assert!((score[j] - (log(1e-5) - log(-1e-5)) / 2e-5).abs() < 1e-9);
            assert!(score.iter().sum::<f64>().abs() < 1e-15);
        }
    }
}

#[test]
fn alignments_of_the_toy_problem_have_their_closed_form() {
    // l_b = (theta - a_b)^2 / 2, L_val = (t - c)^2 / 2.
    let (theta, c, rate) = (0.7, -0.4, 0.1);
    let a = [0.1, 1.5, -2.0, 0.6];
    let mean = a.iter().map(|a| theta - a).sum::<f64>() / 4.0;
    let v: f64 = (theta - rate * mean) - c;
    let losses = |at: f64| a.iter().map(|a| (at - a) * (at - a) / 2.0).collect::<Vec<f64>>();
    let r: f64 = 0.01;
    let displaced = |way: f64| losses(theta + way * r * v / v.abs());
    let central = alignments(&displaced(1.0), &displaced(-1.0), 2.0 * r, v.abs());
    let one_sided = alignments(&displaced(1.0), &losses(theta), r, v.abs());
    for ((central, one_sided), a) in central.iter().zip(&one_sided).zip(a) {
        let exact = v * (theta - a);
        assert!((central - exact).abs() < 1e-9, "{central} instead of {exact}");
        assert!((one_sided - (exact + r / 2.0 * v.abs())).abs() < 1e-9, "{one_sided}");
        // dL_val/dw_b by the unrolled step: theta' depends on w_b through -(rate / B) (theta - a_b).
        let unrolled = |w: f64| {
            let others = mean * 4.0 - (theta - a);
            let ahead = theta - rate / 4.0 * (others + w * (theta - a));
            (ahead - c) * (ahead - c) / 2.0
        };
        let slope = (unrolled(1.0 + 1e-4) - unrolled(1.0 - 1e-4)) / 2e-4;
        assert!((-rate / 4.0 * exact - slope).abs() < 1e-9);
    }
}

fn drawn(choice: usize, centre_class: u8) -> Drawn {
    Drawn { chosen: Chosen { target: 0, choices: vec![choice] }, centre_class }
}

#[test]
fn alignments_are_centred_among_their_kind() {
    let policy = single(&Context::default(), Start::Uniform);
    let mut learner = Learner::new(&policy);
    let batch = [drawn(0, 0), drawn(1, 2), drawn(2, 0), drawn(3, 1)];
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    let centred = learner.centre(&[1.0, 10.0, 3.0, 14.0], &batch);
    assert!(close(&centred, &[-1.0, -2.0, 1.0, 2.0]), "{centred:?}");
    // A single one of its kind: against the mean of earlier updates, 2 for background.
    let centred = learner.centre(&[5.0, 1.0, 2.0], &[drawn(0, 0), drawn(1, 1), drawn(2, 2)]);
    assert!(close(&centred, &[3.0, -0.5, 0.5]), "{centred:?}");
    assert!((learner.means[0] - (0.9 * 2.0 + 0.1 * 5.0)).abs() < 1e-12);
    // At the very first update there is nothing to compare it with.
    let centred = Learner::new(&policy).centre(&[5.0], &[drawn(0, 0)]);
    assert_eq!(centred, [0.0]);
}

/// A policy with one group of choices of these probabilities.
fn three(probabilities: [f64; 3]) -> Policy {
    let logits: Vec<f64> = probabilities.iter().map(|p| p.ln()).collect();
    let mut policy = single(&Context::default(), Start::Uniform);
    policy.groups[0].choices.truncate(3);
    policy.with_logits(&logits)
}

/// The gradient from draws that are compared with each other patch by patch.
fn compared(policy: &Policy, choices: &[usize], alignments: &[f64], patches: usize) -> Vec<f64> {
    let drawn: Vec<Drawn> = choices.iter().map(|&choice| drawn(choice, 0)).collect();
    let centred = leave_one_out(alignments, patches);
    gradient(policy, &drawn, &centred, &Conventions::OWN, &mut generator(1, &["g"]))
}

#[test]
fn draws_of_a_patch_are_compared_with_its_other_draws() {
    // Draw by draw: patch 1 drew 0 and 2, patch 2 drew 1 and 0.
    let (choices, found) = ([0, 1, 2, 0], [1.0, -0.2, 0.4, 0.2]);
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-15);
    let centred = leave_one_out(&found, 2);
    assert!(close(&centred, &[0.6, -0.4, -0.6, 0.4]), "{centred:?}");
    let policy = three([0.5, 0.3, 0.2]);
    let slope = compared(&policy, &choices, &found, 2);
    // Downhill of the held-out loss is up the alignment.
    assert!(close(&slope, &[-0.25, 0.10, 0.15]), "{slope:?}");
    // What a patch adds to all its draws changes nothing: with numbers that add exactly, not a bit.
    let found = [1.0, -0.25, 0.5, 0.125];
    let level = [1024.0, -4096.0, 1024.0, -4096.0];
    let raised: Vec<f64> = found.iter().zip(level).map(|(s, level)| s + level).collect();
    assert_eq!(compared(&policy, &choices, &found, 2), compared(&policy, &choices, &raised, 2));
    // Three draws: against the mean of two.
    assert!(close(&leave_one_out(&[3.0, 1.0, -1.0], 1), &[3.0, 0.0, -3.0]));
}

#[test]
fn the_mean_over_all_draws_is_the_gradient_itself() {
    let p = [0.5, 0.3, 0.2];
    let policy = three(p);
    // How every choice would align, for each of two patches.
    let table = [[0.3, -1.0, 2.0], [11.0, 10.5, 9.0]];
    let exact: Vec<f64> = (0..3)
        .map(|j| {
            let of_patch = |s: &[f64; 3]| p[j] * (s[j] - s.iter().zip(p).map(|(s, p)| s * p).sum::<f64>());
            -table.iter().map(of_patch).sum::<f64>() / 2.0
        })
        .collect();
    for draws in [2, 3] {
        let mut mean = [0.0; 3];
        for code in 0..3_usize.pow(2 * draws) {
            let choices: Vec<usize> = (0..2 * draws).map(|at| code / 3_usize.pow(at) % 3).collect();
            let found: Vec<f64> = choices.iter().enumerate().map(|(at, &c)| table[at % 2][c]).collect();
            let weight: f64 = choices.iter().map(|&choice| p[choice]).product();
            let slope = compared(&policy, &choices, &found, 2);
            mean.iter_mut().zip(slope).for_each(|(mean, slope)| *mean += weight * slope);
        }
        for (mean, exact) in mean.iter().zip(&exact) {
            assert!((mean - exact).abs() < 1e-12, "{draws} draws: {mean} instead of {exact}");
        }
    }
}

#[test]
fn gradients_reach_the_target_and_group_that_drew() {
    let policy = composed(&Context::default(), Start::Uniform).for_targets(Targets::ByCentre);
    assert_eq!(policy.len(), 124);
    let sample = Drawn { chosen: Chosen { target: 1, choices: vec![1; 15] }, centre_class: 3 };
    let slope = gradient(
        &policy,
        std::slice::from_ref(&sample),
        &[2.0],
        &Conventions::OWN,
        &mut generator(1, &["g"]),
    );
    assert!(slope[..62].iter().all(|g| *g == 0.0), "background drew nothing");
    let mut first = 62;
    for group in &policy.groups {
        let part = &slope[first..first + group.choices.len()];
        assert!(part.iter().sum::<f64>().abs() < 1e-14, "{}", group.name);
        // An aligned choice is to be drawn more often: downhill is up its logit.
        assert!(part[1] < 0.0 && part.iter().enumerate().all(|(j, g)| j == 1 || *g > 0.0), "{}", group.name);
        first += group.choices.len();
    }
    // Two that drew the same share one vote; counted, each has its own.
    let twice = [sample.clone(), sample];
    let of = |repeats, estimator| {
        let conventions = Conventions { repeats, estimator, ..Conventions::OWN };
        gradient(&policy, &twice, &[2.0, 2.0], &conventions, &mut generator(1, &["g"]))
    };
    let (divided, counted) = (of(Repeats::Divided, Estimator::Score), of(Repeats::Counted, Estimator::Score));
    assert!(divided.iter().zip(&counted).all(|(d, c)| (2.0 * d - c).abs() < 1e-15));
}

#[test]
fn adam_steps_are_pytorchs() {
    // torch.optim.Adam([0.5, -1.0], lr=0.1), gradients (0.3, -2.0), (-0.1, 0.5), (0.2, 0.0).
    let policy = Policy {
        groups: vec![segen::policy::Group {
            name: "g".to_owned(),
            choices: [0.5, -1.0]
                .map(|logit| segen::policy::Choice {
                    name: "c".to_owned(),
                    logits: vec![logit],
                    family: None,
                    magnitude: None,
                    ops: vec![],
                })
                .into(),
        }],
        ..Policy::default()
    };
    let mut learner = Learner::new(&policy);
    for g in [[0.3, -2.0], [-0.1, 0.5], [0.2, 0.0]] {
        learner.step(&g, 0.1);
    }
    let expected = ADAM;
    for (ours, theirs) in learner.logits.iter().zip(expected) {
        assert!((ours - theirs).abs() < 1e-12, "{ours} instead of {theirs}");
    }
}

/// Where PyTorch 2's Adam arrives in float64.
const ADAM: [f64; 2] = [0.2996695015761391, -0.8167631583054923];

#[test]
fn a_choice_that_harms_loses_its_probability() {
    // Samples that drew choice 3 step away from the validation loss, all others towards it, with noise.
    let policy = single(&Context::default(), Start::Uniform);
    for estimator in [Estimator::StraightThrough, Estimator::Score] {
        let conventions = Conventions { estimator, ..Conventions::OWN };
        let mut learner = Learner::new(&policy);
        let mut random = generator(9, &["toy"]);
        for update in 0..400 {
            let now = policy.with_logits(&learner.logits);
            let batch: Vec<Drawn> =
                (0..10).map(|b| drawn(sample(&now.logits(0, 0), &mut random), b % 2)).collect();
            let alignments: Vec<f64> = batch
                .iter()
                .map(|d| if d.chosen.choices[0] == 3 { -1.0 } else { 1.0 } + 0.3 * gumbel(&mut random))
                .collect();
            let centred = learner.centre(&alignments, &batch);
            let mut redraw = generator(update, &["redraw"]);
            let slope = gradient(&now, &batch, &centred, &conventions, &mut redraw);
            learner.step(&slope, 2e-2);
        }
        let p = policy.with_logits(&learner.logits).probabilities(0, 0);
        let lowest = p.iter().copied().fold(1.0, f64::min);
        assert_eq!(p[3], lowest, "{estimator:?}: {p:?}");
        assert!(p[3] < 0.3 / 44.0, "{estimator:?}: {}", p[3]);
    }
}

#[test]
fn policies_are_read_and_written_as_toml_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let context = Context { sides: Sides { pairs: vec![[1, 2]], bound: vec![] }, ..Context::default() };
    for policy in [
        Policy::default(),
        single(&context, Start::HalfIdentity),
        composed(&context, Start::NnUNet).for_targets(Targets::ByCentre),
    ] {
        let logits: Vec<f64> = (0..policy.len()).map(|i| (i as f64 * 0.37).sin() / 3.0).collect();
        let policy = policy.with_logits(&logits);
        std::fs::write(&path, policy.to_toml()).unwrap();
        assert_eq!(Policy::read(&path).unwrap(), policy);
    }
    for (bad, said) in [
        (
            "name = \"a\"\n[[groups]]\nname = \"g\"\n[[groups.choices]]\nname = \"c\"\nlogits = [1.0]\nmagnitude = 2.0",
            "a family beside it",
        ),
        ("name = 3", "name"),
        ("name = \"a\"\n[[groups]]\nname = \"g\"\nchoices = []", "there is no choice"),
        (
            "name = \"a\"\n[[groups]]\nname = \"g\"\n[[groups.choices]]\nname = \"c\"\nlogits = [1.0, 2.0]",
            "logits = [1.0, 2.0]",
        ),
        (
            "name = \"a\"\n[[groups]]\nname = \"g\"\n[[groups.choices]]\nname = \"c\"\nlogits = [1.0]\n\
             ops = [{ op = \"noise\", deviation = { fixed = -1.0 } }]",
            "deviation",
        ),
    ] {
        std::fs::write(&path, bad).unwrap();
        let message = Policy::read(&path).unwrap_err().to_string();
        assert!(message.contains(said) && message.contains("policy.toml"), "{message}");
    }
}

#[test]
fn every_choice_can_be_drawn_and_one_operation_is_drawn_at_a_time() {
    let policy = single(&Context::default(), Start::Uniform);
    let mut random = generator(2, &["every"]);
    for (index, choice) in policy.groups[0].choices.iter().enumerate() {
        let draw = policy.draw_choice(0, index, 2, &mut random);
        let moved = draw.affine != Affine::IDENTITY;
        assert_eq!(choice.ops.len(), usize::from(index > 0), "{}", choice.name);
        assert_eq!(moved || !draw.changes.is_empty(), index > 0, "{}", choice.name);
        // All channels change alike.
        for pair in draw.changes.chunks_exact(2) {
            assert_eq!(pair[0].kind, pair[1].kind, "{}", choice.name);
        }
    }
    let mut seen = vec![0; 44];
    for _ in 0..4000 {
        let (chosen, _) = policy.draw(0, 1, &mut random);
        seen[chosen.choices[0]] += 1;
    }
    assert!(seen.iter().all(|count| (40..150).contains(count)), "{seen:?}");
}

#[test]
fn unnamed_policies_go_by_the_length_of_the_training() {
    let plan = crate::support::plan();
    let name = |steps| PolicyConfig::default().resolve(&plan, &Sides::default(), steps).unwrap().name;
    assert_eq!([0, 800, 4999].map(name), ["random"; 3]);
    assert_eq!([5000, 250_000].map(name), ["heuristic-nnunet"; 2]);
    let steps = |schedule: Schedule| schedule.expected_steps(|| 0.25);
    let of = |length| Schedule { length, ..Schedule::default() };
    assert_eq!(steps(of(Length::Steps(70))), 70);
    assert_eq!(steps(of(Length::Seconds(300.0))), 1200);
    assert_eq!(steps(of(Length::Epochs(3))), 3 * Schedule::default().steps_per_epoch);
    assert_eq!(steps(Schedule::default()), 250_000);
}

#[test]
fn starts_that_need_groups_are_refused_for_single_operations() {
    let config = PolicyConfig {
        name: NameOrFile::Name(PolicyName::Learned),
        start: NameOrFile::Name(Start::NnUNet),
        ..PolicyConfig::default()
    };
    let message = config.resolve(&crate::support::plan(), &Sides::default(), 0).unwrap_err().to_string();
    assert!(message.contains("policy.start") && message.contains("policy.form=composed"), "{message}");
}

#[test]
fn policy_files_that_name_channels_the_data_lack_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    let rule = "{ probability = 1.0, op = \"nonzero\", channels = [0, 3] }";
    std::fs::write(&file, format!("name = \"of four channels\"\nrules = [{rule}]\n")).unwrap();
    let config = PolicyConfig { name: NameOrFile::File(file.clone()), ..PolicyConfig::default() };
    let message = config.resolve(&crate::support::plan(), &Sides::default(), 0).unwrap_err().to_string();
    for part in ["policy.toml", "rules[0]", "channel 3"] {
        assert!(message.contains(part), "{message}");
    }
}
