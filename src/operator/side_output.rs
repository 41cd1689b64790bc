//! SideOutput: a second stream out of an operator, named and typed by a tag.

use super::output::{AnyOut, Out};
use crate::base::data::Data;
use std::marker::PhantomData;
use std::sync::Arc;

/// Names a side output of records of type `T`. User code emits into it with
/// [`Collector::emit_to`](super::collector::Collector::emit_to), the program reads it with
/// [`DataStream::side_output`](crate::api::DataStream::side_output). Two tags of the same name are the same output of an operator.
pub struct SideOutput<T> {
    name: Arc<str>,
    types: PhantomData<fn() -> T>,
}

impl<T> Clone for SideOutput<T> {
    fn clone(&self) -> Self {
        SideOutput { name: self.name.clone(), types: PhantomData }
    }
}

impl<T: Data> SideOutput<T> {
    /// The output of this name.
    pub fn new(name: &str) -> Self {
        SideOutput { name: Arc::from(name), types: PhantomData }
    }
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// A side output that somebody reads, as the plan keeps it.
pub trait SidePort: Send + Sync {
    /// Its name.
    fn name(&self) -> &Arc<str>;
    /// The type of its records, for plans and errors.
    fn record_type(&self) -> &'static str;
    /// Where an operator puts its records.
    fn out(&self) -> Box<dyn AnyOut>;
}

impl<T: Data> SidePort for SideOutput<T> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }
    fn record_type(&self) -> &'static str {
        std::any::type_name::<T>()
    }
    fn out(&self) -> Box<dyn AnyOut> {
        Box::new(Out::<T>::new())
    }
}
