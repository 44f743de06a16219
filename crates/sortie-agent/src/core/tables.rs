//! Tables that others can change (kernels below 6.9): looked at when somebody did, and made anew.

use std::sync::atomic::Ordering;

use sortie_plan::state::Observed;

use super::Core;

impl Core {
    /// Packets leave unguarded meanwhile, so this comes before all else.
    pub(super) fn look_at_tables(&mut self) {
        let touched = &self.handle.touched;
        let changed = touched.changed.swap(false, Ordering::AcqRel);
        let lost = touched.lost.swap(false, Ordering::AcqRel);
        if changed {
            tracing::error!("another program changed or deleted our tables; making them anew");
            self.foreign_changes += 1;
            self.distrusted = true;
        } else if lost {
            // What we changed ourselves may be what was too much: nothing is made anew for it.
            tracing::warn!("changes of nftables were lost; comparing");
        } else {
            return;
        }
        self.converge();
    }

    /// Rules are not read back: what somebody else changed is taken for another version. While the
    /// containers are not known, what is left of it serves them still.
    pub(super) fn distrust(&self, observed: &mut Observed) {
        if self.distrusted && self.compared {
            for table in observed.tables.values_mut() {
                table.tag.clear();
            }
        }
    }
}
