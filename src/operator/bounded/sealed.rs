//! Sealed: rows that an operator has set aside, in several outputs where snapshots were taken meanwhile.
//!
//! Method: each barrier ends an output, so that its rows can be read for the snapshot, a slice at a time. Rows are only ever
//! added: a snapshot of changes has those of the last output. Outputs of about the same size become one, so that
//! there are few of them, each with a file: [`CROWD`] for each factor of [`CROWD`] between the smallest and the largest.

use crate::base::error::Result;
use crate::operator::{Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::Section;
use crate::services::shuffle::{Concat, MergeInput, RowRef, ShuffleOutput};
use std::sync::Arc;

/// So many outputs that were made of as many others each become one.
pub(super) const CROWD: usize = 8;

/// Outputs, oldest first.
#[derive(Default)]
pub(super) struct Sealed {
    outputs: Vec<Arc<ShuffleOutput>>,
    /// How often the rows of each output have been written again.
    levels: Vec<u32>,
    /// What is still to be put into the snapshot under way.
    showing: Option<Concat>,
}

impl Sealed {
    /// Adds an output whose rows come after all others.
    pub(super) fn push(&mut self, output: ShuffleOutput) {
        self.push_at(0, output);
    }

    fn push_at(&mut self, level: u32, output: ShuffleOutput) {
        self.outputs.push(Arc::new(output));
        self.levels.push(level);
    }

    /// Number of outputs.
    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Whether there are no outputs.
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Forgets all outputs.
    pub(super) fn clear(&mut self) {
        *self = Sealed::default();
    }

    /// All outputs, to be read as those of one input.
    pub(super) fn inputs(&self, input: usize) -> Vec<MergeInput> {
        inputs(input, &self.outputs)
    }

    /// Makes one of the youngest outputs if they are many of a kind: `write` copies their rows, in order.
    pub(super) fn merge(&mut self, mut write: impl FnMut(Concat) -> Result<ShuffleOutput>) -> Result<()> {
        while let Some(&level) = self.levels.last()
            && let Some(from) = self.len().checked_sub(CROWD)
            && self.levels[from..].iter().all(|&other| other == level)
        {
            let merged = write(Concat::new(0, &inputs(0, &self.outputs[from..])))?;
            self.outputs.truncate(from);
            self.levels.truncate(from);
            self.push_at(level + 1, merged);
        }
        Ok(())
    }

    /// A snapshot begins that is to have the rows of the outputs from this one on.
    pub(super) fn show(&mut self, from: usize) {
        self.showing = Some(Concat::new(0, &inputs(0, &self.outputs[from.min(self.len())..])));
    }

    /// Puts about a slice of the rows into a section.
    pub(super) fn show_more(
        &mut self,
        into: &mut Section,
        mut put: impl FnMut(&RowRef<'_>, &mut Section) -> Result<()>,
    ) -> Result<Progress> {
        let end = into.bytes().len() + SNAPSHOT_SLICE_BYTES;
        while let Some(rows) = &mut self.showing {
            match rows.next_row()? {
                Some(row) => put(&row, into)?,
                None => self.showing = None,
            }
            if into.bytes().len() >= end {
                return Ok(Progress::Yielded);
            }
        }
        Ok(Progress::Done)
    }
}

fn inputs(input: usize, outputs: &[Arc<ShuffleOutput>]) -> Vec<MergeInput> {
    let outputs = outputs.iter().enumerate();
    outputs.map(|(producer, output)| MergeInput { input, producer, output: output.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::MemVfs;
    use crate::services::shuffle::{Identity, PartitionBuffer, Remainder, ShuffleContext};

    fn buffer() -> PartitionBuffer {
        let context = ShuffleContext {
            vfs: Arc::new(MemVfs::new()),
            dir: "/".into(),
            name: None,
            identity: Identity::default(),
            share_bytes: 64 << 10,
            timestamps: false,
        };
        PartitionBuffer::new(context, 1)
    }

    fn rows(mut rows: Concat) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            all.extend_from_slice(row.value);
        }
        all
    }

    /// Outputs, and with them open files, stay few however many snapshots are taken, and rows in order.
    #[test]
    fn outputs_stay_few_and_in_order() {
        let mut sealed = Sealed::default();
        let (mut expected, mut most) = (Vec::new(), 0);
        for i in 0..1_000u32 {
            let before = sealed.len();
            let mut output = buffer();
            output.append(0, None, &[i as u8, 0]).unwrap();
            sealed.push(output.finish(Remainder::Disk).unwrap());
            expected.extend([i as u8, 0]);
            sealed.show(before);
            let mut section = Section::default();
            let mut put = |row: &RowRef<'_>, into: &mut Section| into.put(&row.value);
            assert_eq!(sealed.show_more(&mut section, &mut put).unwrap(), Progress::Done);
            assert_eq!(section.len(), 1, "what is new");
            let merge = |mut rows: Concat| {
                let mut merged = buffer();
                while let Some(row) = rows.next_row()? {
                    merged.append(0, None, row.value)?;
                }
                merged.finish(Remainder::Disk)
            };
            sealed.merge(merge).unwrap();
            most = most.max(sealed.len());
        }
        assert!(most <= 4 * CROWD, "{most} outputs");
        assert_eq!(rows(Concat::new(0, &sealed.inputs(0))), expected);
    }

    /// A snapshot of everything is put a slice at a time, and does not see what comes meanwhile.
    #[test]
    fn a_snapshot_is_put_in_slices() {
        let mut sealed = Sealed::default();
        let row = vec![7; SNAPSHOT_SLICE_BYTES / 4];
        for _ in 0..6 {
            let mut output = buffer();
            output.append(0, None, &row).unwrap();
            sealed.push(output.finish(Remainder::Disk).unwrap());
        }
        sealed.show(0);
        let (mut slices, mut section) = (0, Section::default());
        let mut put = |row: &RowRef<'_>, into: &mut Section| into.put(&row.value);
        while sealed.show_more(&mut section, &mut put).unwrap() == Progress::Yielded {
            slices += 1;
            let mut output = buffer();
            output.append(0, None, &row).unwrap();
            sealed.push(output.finish(Remainder::Disk).unwrap());
        }
        assert!(slices > 0);
        assert_eq!(section.len(), 6);
    }
}
