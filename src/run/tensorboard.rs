//! The events of a run as TensorBoard reads them: one file of scalars, which says what `events.jsonl` says.
//!
//! A file is a row of records, each a length, a sum of it, a message and a sum of that (TFRecord: little-endian, CRC-32C,
//! masked). A message is a protocol buffer `Event` of TensorFlow's `event.proto`, its scalars a `Summary`. The times in it
//! are the seconds that the events tell since the first one, so that the same events always give the same file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Run;
use super::events::{ControlEvent, EpochEvent, Event, LogitsEvent, StepEvent};
use crate::files::write_atomically;
use crate::{Error, Result};

/// The file in a run's folder; TensorBoard knows event files by `tfevents` in their names.
pub(crate) const FILE: &str = "events.out.tfevents.segen";

/// Appends events to the file of a run.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
    encoder: Encoder,
}

impl EventFile {
    /// Opens the file of a run whose `events.jsonl` holds `events` and is going to grow: afterwards it holds these and
    /// nothing else, whatever it held before. `classes` are the names of the classes, background first.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub(super) fn open(run: &Run, events: &[Event], classes: &[String]) -> Result<Self> {
        let path = run.path(FILE);
        let there = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let begun = began(&there).unwrap_or_else(|| now() - events.iter().map(seconds).sum::<f64>());
        let (bytes, encoder) = encoded(events, classes, begun);
        let open = || File::options().append(true).open(&path).map_err(|e| Error::io("open", &path, e));
        // Readers follow a file that grows; one that was replaced they may lose sight of.
        let file = if there.starts_with(&bytes) {
            let file = open()?;
            file.set_len(bytes.len() as u64).map_err(|e| Error::io("write", &path, e))?;
            file
        } else {
            write_atomically(&path, &bytes)?;
            open()?
        };
        Ok(Self { path, file, encoder })
    }

    /// Appends an event.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn record(&mut self, event: &Event) -> Result<()> {
        let bytes = self.encoder.event(event);
        self.file.write_all(&bytes).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// The whole file of events that began at `begun`, in seconds since 1970, and what goes on with it.
fn encoded(events: &[Event], classes: &[String], begun: f64) -> (Vec<u8>, Encoder) {
    let mut encoder = Encoder { clock: begun, classes: classes.to_vec() };
    let mut bytes = record(&version(begun));
    events.iter().for_each(|event| bytes.extend(encoder.event(event)));
    (bytes, encoder)
}

/// The file of a run that has ended, as it would be had it been written all along. The last event was when
/// `events.jsonl` was changed last.
///
/// # Errors
/// Where the events cannot be read.
pub(crate) fn of_run(path: &Path, events: &[Event], classes: &[String]) -> Result<Vec<u8>> {
    let changed = path.metadata().and_then(|metadata| metadata.modified());
    let changed = changed.map_err(|error| Error::io("read", path, error))?;
    let begun = since_1970(changed) - events.iter().map(seconds).sum::<f64>();
    Ok(encoded(events, classes, begun).0)
}

/// What turns events into records.
#[derive(Debug)]
struct Encoder {
    /// Seconds since 1970 at the last event.
    clock: f64,
    classes: Vec<String>,
}

impl Encoder {
    /// The record of an event; nothing where it has no number.
    fn event(&mut self, event: &Event) -> Vec<u8> {
        self.clock += seconds(event);
        let mut scalars = Vec::new();
        let step = match event {
            Event::Step(step) => {
                of_step(step, &mut scalars);
                step.step
            }
            Event::Epoch(epoch) => {
                self.of_epoch(epoch, &mut scalars);
                epoch.step
            }
            Event::Logits(logits) => {
                self.of_logits(logits, &mut scalars);
                logits.step
            }
            Event::Phase(phase) => {
                scalars.push(("phase/seconds".to_owned(), phase.seconds));
                phase.step
            }
            Event::Policy(policy) => {
                scalars.push(("policy/validation_loss".to_owned(), policy.validation_loss));
                policy.step
            }
            Event::Control(control) => {
                self.of_control(control, &mut scalars);
                control.step
            }
        };
        if scalars.is_empty() { Vec::new() } else { record(&message(self.clock, step, &scalars)) }
    }

    /// A score per class; `first` is the class of the first one.
    fn per_class(&self, tag: &str, first: usize, values: &[Option<f64>], scalars: &mut Vec<(String, f64)>) {
        for (class, value) in values.iter().enumerate() {
            let name = self.classes.get(first + class).cloned();
            let name = name.unwrap_or_else(|| format!("class {}", first + class));
            scalars.extend(value.map(|value| (format!("{tag}/{name}"), value)));
        }
    }

    fn of_epoch(&self, epoch: &EpochEvent, scalars: &mut Vec<(String, f64)>) {
        scalars.push(("epoch/train_loss".to_owned(), epoch.train_loss));
        scalars.push(("epoch/share_waiting_on_data".to_owned(), epoch.share_waiting_on_data));
        let validation = &epoch.validation;
        scalars.extend(validation.mean_dice.map(|dice| ("validation/mean_dice".to_owned(), dice)));
        self.per_class("validation_dice", 1, &validation.dice, scalars);
        self.per_class("validation_sensitivity", 1, &validation.sensitivity, scalars);
        self.per_class("validation_precision", 1, &validation.precision, scalars);
    }

    fn of_logits(&self, logits: &LogitsEvent, scalars: &mut Vec<(String, f64)>) {
        for (origin, rates) in [("seen", &logits.shift.seen), ("unseen", &logits.shift.unseen)] {
            let crossing: Vec<Option<f64>> = rates.iter().map(|rate| rate.crossing).collect();
            self.per_class(&format!("misclassified_{origin}"), 0, &crossing, scalars);
        }
    }

    fn of_control(&self, control: &ControlEvent, scalars: &mut Vec<(String, f64)>) {
        self.per_class("gap", 0, &control.gap, scalars);
        let margins: Vec<Option<f64>> = control.strength.margin.iter().copied().map(Some).collect();
        self.per_class("margin", 0, &margins, scalars);
        scalars.push(("control/gamma".to_owned(), control.strength.gamma));
        scalars.push(("control/passes".to_owned(), control.strength.passes));
    }
}

fn of_step(step: &StepEvent, scalars: &mut Vec<(String, f64)>) {
    let mut put = |tag: &str, value: Option<f64>| scalars.extend(value.map(|value| (tag.to_owned(), value)));
    put("step/loss", Some(step.loss));
    put("step/cross_entropy", Some(step.cross_entropy));
    put("step/dice_loss", Some(step.dice_loss));
    put("step/learning_rate", Some(step.learning_rate));
    put("step/gradient_norm", step.gradient_norm);
    for (name, value) in &step.passes {
        put(&format!("step/{name}"), *value);
    }
    put("step/seconds", Some(seconds(&Event::Step(step.clone()))));
}

/// What an event took.
fn seconds(event: &Event) -> f64 {
    match event {
        Event::Step(StepEvent { seconds: s, .. }) => s.wait + s.forward + s.backward + s.update + s.policy,
        Event::Epoch(epoch) => epoch.validation.seconds,
        Event::Logits(logits) => logits.seconds,
        Event::Control(control) => control.seconds,
        Event::Phase(phase) => phase.seconds,
        Event::Policy(_) => 0.0,
    }
}

fn now() -> f64 {
    since_1970(SystemTime::now())
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The time in the first record of a file.
fn began(bytes: &[u8]) -> Option<f64> {
    let time = bytes.get(13..21)?;
    let time = f64::from_le_bytes(time.try_into().ok()?);
    bytes.starts_with(&record(&version(time))).then_some(time)
}

/// The message that begins a file.
fn version(time: f64) -> Vec<u8> {
    let mut message = Vec::new();
    field_f64(&mut message, 1, time);
    field_bytes(&mut message, 3, b"brain.Event:2");
    message
}

/// An `Event` with a `Summary` of scalars.
fn message(time: f64, step: u64, scalars: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let mut scalar = Vec::new();
        field_bytes(&mut scalar, 1, tag.as_bytes());
        // `simple_value`, a float.
        varint(&mut scalar, 2 << 3 | 5);
        scalar.extend((*value as f32).to_le_bytes());
        field_bytes(&mut summary, 1, &scalar);
    }
    let mut message = Vec::new();
    field_f64(&mut message, 1, time);
    // Zero is what readers take where a number is missing, and writers leave it out.
    if step > 0 {
        varint(&mut message, 2 << 3);
        varint(&mut message, step);
    }
    field_bytes(&mut message, 5, &summary);
    message
}

fn field_f64(message: &mut Vec<u8>, field: u64, value: f64) {
    varint(message, field << 3 | 1);
    message.extend(value.to_le_bytes());
}

fn field_bytes(message: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(message, field << 3 | 2);
    varint(message, value.len() as u64);
    message.extend(value);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        message.push(value as u8 | 128);
        value >>= 7;
    }
    message.push(value as u8);
}

/// A message as a record.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + 16);
    record.extend(length);
    record.extend(masked(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked(message).to_le_bytes());
    record
}

/// CRC-32C, turned and moved so that a sum of bytes that hold sums is no trivial one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4), bit by bit: records are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::events::{Rate, StepSeconds, ValidationScores};

    /// The messages of a file; panics where a sum is wrong or a record is not whole.
    fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let whole = record(&bytes[12..12 + length]);
            assert_eq!(&bytes[..whole.len()], whole);
            messages.push(bytes[12..12 + length].to_vec());
            bytes = &bytes[whole.len()..];
        }
        messages
    }

    fn step(step: u64) -> Event {
        let seconds = StepSeconds { wait: 0.25, forward: 0.5, backward: 0.5, update: 0.25, policy: 0.0 };
        Event::Step(StepEvent { step, loss: 0.5 / (1 + step) as f64, seconds, ..StepEvent::default() })
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_are_those_that_tensorboardx_writes() {
        // Made by tests/reference/make_tensorboard.py.
        let expected = include_bytes!("../../tests/data/tensorboard.bin");
        let epoch = EpochEvent {
            step: 299,
            train_loss: 0.1,
            validation: ValidationScores {
                mean_dice: Some(0.625),
                dice: vec![None, Some(0.625)],
                sensitivity: vec![Some(0.0), Some(1.0)],
                precision: vec![None, Some(1.0 / 3.0)],
                seconds: 2.5,
                ..ValidationScores::default()
            },
            share_waiting_on_data: 0.01,
            ..EpochEvent::default()
        };
        let mut logits = LogitsEvent { step: 299, seconds: 0.125, ..LogitsEvent::default() };
        logits.shift.seen = vec![Rate { crossing: Some(0.25), ..Rate::default() }, Rate::default()];
        let classes = ["background", "Ödem", "core"].map(str::to_owned);
        let mut first = step(0);
        if let Event::Step(event) = &mut first {
            event.passes.insert("mixup_loss".to_owned(), Some(-1.5e-7));
            event.passes.insert("mixup_share".to_owned(), None);
            (event.learning_rate, event.gradient_norm) = (0.01, Some(12.5));
        }
        let events = [first, step(1), step(200), Event::Epoch(epoch), Event::Logits(logits)];
        assert_eq!(encoded(&events, &classes, 1_700_000_000.25).0, expected);
    }

    #[test]
    fn a_run_that_goes_on_leaves_no_record_twice_and_none_broken() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::at(folder.path());
        let read = || std::fs::read(run.path(FILE)).unwrap();
        let mut file = EventFile::open(&run, &[], &[]).unwrap();
        let events: Vec<Event> = (0..6).map(step).collect();
        events.iter().for_each(|event| file.record(event).unwrap());
        let whole = read();
        assert_eq!(messages(&whole).len(), 7);
        // Stopped in the middle of a record, to go on from step 4.
        for cut in [whole.len() - 5, whole.len(), 3, 0] {
            std::fs::write(run.path(FILE), &whole[..cut]).unwrap();
            let mut file = EventFile::open(&run, &events[..4], &[]).unwrap();
            assert_eq!(messages(&read()).len(), 5, "{cut}");
            events[4..].iter().for_each(|event| file.record(event).unwrap());
            assert_eq!(messages(&read()).len(), 7);
            // Where the beginning was still there, so is its time.
            assert_eq!(read() == whole, cut > 100, "{cut}");
        }
        // Something else under its name.
        std::fs::write(run.path(FILE), vec![7; 500]).unwrap();
        EventFile::open(&run, &events, &[]).unwrap();
        assert_eq!(messages(&read()).len(), 7);
    }
}
