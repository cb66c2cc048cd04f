//! How long-running functions tell the caller where they are. The library never prints.

/// Receives the progress of one task at a time per value. Calls may come from any thread.
pub trait Progress: Sync {
    /// A task of `total` equal parts begins; `what` names it for a person ("preparing cases").
    fn begin(&self, what: &str, total: u64);
    /// `parts` more parts are done.
    fn advance(&self, parts: u64);
    /// `parts` of the task were done before it began: they count as done and say nothing of how fast it goes.
    fn skip(&self, parts: u64) {
        self.advance(parts);
    }
    /// Something worth a line of its own: a warning, a decision, a measurement.
    fn note(&self, message: &str);
    /// The task is over.
    fn end(&self);
    /// Whether the user has asked to stop. Work that lasts looks at this where it can be taken up again, and then ends
    /// with [`Error::Stopped`](crate::Error::Stopped).
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}
