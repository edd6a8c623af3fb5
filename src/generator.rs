//! stub
#![allow(missing_docs)]
#[derive(Debug)]
pub struct Generator;
#[derive(Debug)]
pub struct GeneratorState;
#[derive(Debug)]
pub struct Yielder;
