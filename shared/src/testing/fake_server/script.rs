//! Which call gets which behaviour.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

type Respond<C, B> = Arc<dyn Fn(&C) -> B + Send + Sync>;

/// Behaviours in their order of precedence.
pub(crate) struct Script<C, B> {
    pub(crate) next: VecDeque<B>,
    pub(crate) every: Option<(u64, B)>,
    pub(crate) respond: Option<Respond<C, B>>,
}

impl<C, B: Clone> Script<C, B> {
    /// What the test wants for the call with this number; none where it said nothing.
    pub(crate) fn behaviour(&mut self, number: u64, call: &C) -> Option<B> {
        if let Some(behaviour) = self.next.pop_front() {
            return Some(behaviour);
        }
        match &self.every {
            Some((n, behaviour)) if number.is_multiple_of(*n) => return Some(behaviour.clone()),
            _ => {}
        }
        self.respond.as_ref().map(|respond| respond(call))
    }
}

impl<C, B> Default for Script<C, B> {
    fn default() -> Self {
        Self { next: VecDeque::new(), every: None, respond: None }
    }
}

impl<C, B: fmt::Debug> fmt::Debug for Script<C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("next", &self.next).field("every", &self.every).finish_non_exhaustive()
    }
}
