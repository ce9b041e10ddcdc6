//! Messages that would repeat without end: the first is logged, then the second, the fourth, the eighth.

/// How often something has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repeated(u64);

impl Repeated {
    /// It has happened once more: how often by now, if that is to be logged.
    pub(crate) fn again(&mut self) -> Option<u64> {
        self.0 = self.0.saturating_add(1);
        self.0.is_power_of_two().then_some(self.0)
    }
}
