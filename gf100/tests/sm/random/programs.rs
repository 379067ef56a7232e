//! Random structured programs, and the machine code that Mesa would make of their structure.

use super::{
    ops::{Effect, Generator, Operation, PREDS, Thread},
    rng::Rng,
};
use crate::asm::*;

/// Registers that count iterations, by depth of the loop; operations leave them alone.
const COUNTERS: [u64; 3] = [40, 41, 42];

/// A guard: a predicate, or its complement.
#[derive(Clone, Copy)]
pub struct Guard {
    pred: u64,
    not: bool,
}

impl Guard {
    fn holds(self, t: &Thread) -> bool {
        t.preds[self.pred as usize] != self.not
    }

    fn not(self) -> Self {
        Self {
            not: !self.not,
            ..self
        }
    }

    fn apply(self, line: Line) -> Line {
        let guard = |i: I| match self.not {
            false => i.on(self.pred),
            true => i.unless(self.pred),
        };
        match line {
            Line::Plain(i) => Line::Plain(guard(i)),
            Line::To(i, to) => Line::To(guard(i), to),
            label => label,
        }
    }
}

/// A piece of a program.
pub enum Node {
    Operation(Vec<I>, Effect),
    If {
        guard: Guard,
        then: Vec<Node>,
        other: Vec<Node>,
    },
    /// Runs as often as it says at most.
    Loop {
        times: u32,
        body: Vec<Node>,
    },
    Break(Guard),
    Continue(Guard),
    /// A function that may return early.
    Call {
        body: Vec<Node>,
    },
    Return(Guard),
}

/// How a piece ended.
#[derive(PartialEq, Eq)]
pub enum End {
    Through,
    Broken,
    Continued,
    Returned,
}

impl Node {
    /// Runs pieces for one thread.
    pub fn run_all(nodes: &[Node], t: &mut Thread) -> End {
        for node in nodes {
            let end = node.run(t);
            if end != End::Through {
                return end;
            }
        }
        End::Through
    }

    fn run(&self, t: &mut Thread) -> End {
        match self {
            Node::Operation(_, effect) => effect(t),
            Node::If { guard, then, other } => {
                let taken = if guard.holds(t) { then } else { other };
                return Self::run_all(taken, t);
            }
            Node::Loop { times, body } => {
                for _ in 0..*times {
                    match Self::run_all(body, t) {
                        End::Broken => break,
                        End::Returned => return End::Returned,
                        End::Through | End::Continued => {}
                    }
                }
            }
            Node::Call { body } => {
                Self::run_all(body, t);
            }
            Node::Break(guard) if guard.holds(t) => return End::Broken,
            Node::Continue(guard) if guard.holds(t) => return End::Continued,
            Node::Return(guard) if guard.holds(t) => return End::Returned,
            Node::Break(_) | Node::Continue(_) | Node::Return(_) => {}
        }
        End::Through
    }
}

/// What may be in a piece.
#[derive(Clone, Copy)]
struct Where {
    depth: usize,
    loops: usize,
    in_loop: bool,
    in_function: bool,
}

/// A random program.
pub struct Program {
    pub body: Vec<Node>,
}

impl Program {
    pub fn new(rng: &mut Rng, constants: &[u32]) -> Self {
        let at = Where {
            depth: 0,
            loops: 0,
            in_loop: false,
            in_function: false,
        };
        Self {
            body: nodes(rng, constants, at),
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        let mut code = Code::default();
        code.nodes(&self.body, 0);
        code.lines.push(bra("done"));
        code.lines.append(&mut code.functions);
        code.lines.push(label("done"));
        code.lines
    }
}

fn nodes(rng: &mut Rng, constants: &[u32], at: Where) -> Vec<Node> {
    let count = 1 + rng.below(4);
    (0..count).map(|_| node(rng, constants, at)).collect()
}

fn node(rng: &mut Rng, constants: &[u32], at: Where) -> Node {
    let guard = Guard {
        pred: rng.below(PREDS as u64),
        not: rng.flip(),
    };
    let inner = Where {
        depth: at.depth + 1,
        ..at
    };
    match rng.below(10) {
        0 | 1 if at.depth < 5 => Node::If {
            guard,
            then: nodes(rng, constants, inner),
            other: match rng.flip() {
                true => nodes(rng, constants, inner),
                false => Vec::new(),
            },
        },
        2 if at.depth < 5 && at.loops < COUNTERS.len() => Node::Loop {
            times: 1 + rng.below(5) as u32,
            body: nodes(
                rng,
                constants,
                Where {
                    loops: at.loops + 1,
                    in_loop: true,
                    ..inner
                },
            ),
        },
        3 if at.in_loop => Node::Break(guard),
        4 if at.in_loop => Node::Continue(guard),
        5 if at.depth < 4 => Node::Call {
            body: nodes(
                rng,
                constants,
                Where {
                    in_loop: false,
                    in_function: true,
                    ..inner
                },
            ),
        },
        6 if at.in_function => Node::Return(guard),
        _ => {
            let Operation { code, effect } = Generator { rng, constants }.operation();
            Node::Operation(code, effect)
        }
    }
}

/// Machine code under construction.
#[derive(Default)]
struct Code {
    lines: Vec<Line>,
    functions: Vec<Line>,
    labels: usize,
}

impl Code {
    fn label(&mut self) -> &'static str {
        self.labels += 1;
        // The test's process ends soon.
        format!("l{}", self.labels).leak()
    }

    fn nodes(&mut self, nodes: &[Node], loops: usize) {
        for node in nodes {
            self.node(node, loops);
        }
    }

    fn node(&mut self, node: &Node, loops: usize) {
        match node {
            Node::Operation(code, _) => self.lines.extend(code.iter().map(|&i| Line::from(i))),
            Node::If { guard, then, other } => {
                let (els, end) = (self.label(), self.label());
                self.lines.push(ssy(end));
                let skip = if other.is_empty() { end } else { els };
                if other.is_empty() {
                    // The lanes that go around the body join on their way.
                    let body = self.label();
                    self.lines.push(guard.apply(bra(body)));
                    self.lines.push(nop().join().into());
                    self.lines.push(label(body));
                } else {
                    self.lines.push(guard.not().apply(bra(skip)));
                }
                self.nodes(then, loops);
                self.lines.push(nop().join().into());
                if !other.is_empty() {
                    self.lines.push(label(els));
                    self.nodes(other, loops);
                    self.lines.push(nop().join().into());
                }
                self.lines.push(label(end));
            }
            Node::Loop { times, body } => {
                let counter = COUNTERS[loops];
                let (top, end) = (self.label(), self.label());
                self.lines.push(mov_imm(counter, *times).into());
                self.lines.push(pbk(end));
                self.lines.push(label(top));
                self.lines.push(pcnt(top));
                // Counted at the top, where continues lead, too; predicate 6 is nobody's.
                self.lines.push(isetp_imm(6, cond::EQ, counter, 0).into());
                self.lines.push(brk().on(6).into());
                self.lines.push(iadd_imm(counter, counter, -1).into());
                self.nodes(body, loops + 1);
                self.lines.push(cont().into());
                self.lines.push(label(end));
            }
            Node::Break(guard) => self.lines.push(guard.apply(brk().into())),
            Node::Continue(guard) => self.lines.push(guard.apply(cont().into())),
            Node::Return(guard) => self.lines.push(guard.apply(ret().into())),
            Node::Call { body } => {
                let start = self.label();
                self.lines.push(call(start));
                let caller = std::mem::take(&mut self.lines);
                self.lines.push(label(start));
                // A function's loops count on in registers that its caller does not use.
                self.nodes(body, loops);
                self.lines.push(ret().into());
                let function = std::mem::replace(&mut self.lines, caller);
                self.functions.extend(function);
            }
        }
    }
}
