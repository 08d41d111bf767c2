//! The check of linearizability beside stateright's tester, on histories small enough for it.

use holdfast::model::kv::{Op, RangeRequest, Revision, TxnRequest};
use rand::RngExt;
use rand::rngs::SmallRng;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::linear;
use crate::history::{Answer, End, History, Question};
use crate::model::Model;

const CLIENTS: usize = 3;
const EACH: usize = 3;

impl SequentialSpec for Model {
    type Op = Question;
    type Ret = Answer;

    fn invoke(&mut self, question: &Question) -> Answer {
        match question {
            Question::Range(request) => Answer::Range(self.range(request, self.revision)),
            Question::Txn(request) => {
                let ran = self.run(request, self.revision).expect("nothing here is refused");
                if !ran.events.is_empty() {
                    self.commit(&ran.events);
                }
                Answer::Txn(ran.answer)
            }
        }
    }
}

fn question(rng: &mut SmallRng, tag: usize) -> Question {
    let key = format!("k/{}", rng.random_range(0..2));
    match rng.random_range(0..5) {
        0 | 1 => Question::Range(RangeRequest::prefix("k/")),
        2 => Question::Txn(TxnRequest { success: vec![Op::delete(key)], ..Default::default() }),
        _ => {
            let put = vec![Op::put(key, format!("v{tag}"))];
            Question::Txn(TxnRequest { success: put, ..Default::default() })
        }
    }
}

/// What a client does next with its question.
#[derive(Clone)]
enum Stage {
    Idle,
    Asked(usize),
    Done(usize, Answer),
    Gone,
}

/// A true history, seen by both; one answer may be exchanged for one of another revision.
struct Both {
    history: History,
    tester: LinearizabilityTester<usize, Model>,
    model: Model,
    stages: Vec<Stage>,
    left: Vec<usize>,
}

impl Both {
    fn step(&mut self, rng: &mut SmallRng, lies: bool) -> bool {
        let busy: Vec<usize> = (0..CLIENTS).filter(|client| self.has_work(*client)).collect();
        if busy.is_empty() {
            return false;
        }
        let client = busy[rng.random_range(0..busy.len())];
        match self.stages[client].clone() {
            Stage::Idle => {
                self.left[client] -= 1;
                let asked = question(rng, self.history.asked.len());
                self.tester.on_invoke(client, asked.clone()).unwrap();
                let number = self.history.begin(client as u64, asked);
                self.stages[client] = Stage::Asked(number);
            }
            Stage::Asked(number) => self.effect(client, number, rng),
            Stage::Done(number, mut answer) => {
                if let (Answer::Range(_), Question::Range(request)) =
                    (&answer, &self.history.asked[number].question)
                    && lies
                    && rng.random_bool(0.3)
                {
                    let at: Revision = rng.random_range(1..=self.model.revision);
                    answer = Answer::Range(self.model.range(request, at));
                }
                self.tester.on_return(client, answer.clone()).unwrap();
                self.history.end(number, End::Answered(answer));
                self.stages[client] = Stage::Idle;
            }
            Stage::Gone => {}
        }
        true
    }

    fn has_work(&self, client: usize) -> bool {
        match self.stages[client] {
            Stage::Idle => self.left[client] > 0,
            Stage::Asked(_) | Stage::Done(..) => true,
            Stage::Gone => false,
        }
    }

    /// The question is done, or nobody will ever hear whether it was.
    fn effect(&mut self, client: usize, number: usize, rng: &mut SmallRng) {
        let is_lost = rng.random_bool(0.15);
        if is_lost && rng.random_bool(0.5) {
            self.stages[client] = Stage::Gone;
            return;
        }
        let asked = self.history.asked[number].question.clone();
        let before = self.model.revision;
        if let Question::Txn(request) = &asked {
            let ran = self.model.run(request, before).expect("nothing here is refused");
            if !ran.events.is_empty() {
                self.history.archive.insert(before + 1, ran.events);
            }
        }
        let answer = self.model.invoke(&asked);
        self.stages[client] = if is_lost { Stage::Gone } else { Stage::Done(number, answer) };
    }
}

#[test]
fn the_check_and_stateright_say_the_same_of_small_histories() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..1_500 {
        let mut rng = crate::random::stream(seed, "small histories", 0);
        let mut both = Both {
            history: History::default(),
            tester: LinearizabilityTester::new(Model::new()),
            model: Model::new(),
            stages: vec![Stage::Idle; CLIENTS],
            left: vec![EACH; CLIENTS],
        };
        while both.step(&mut rng, seed % 2 == 1) {}
        let ours = linear::check(&both.history, both.model.revision).map(drop);
        let theirs = both.tester.is_consistent();
        assert_eq!(ours.is_ok(), theirs, "seed {seed}: {ours:?}: {:#?}", both.history.asked);
        whole += u32::from(theirs);
        broken += u32::from(!theirs);
    }
    assert!(whole > 300 && broken > 100, "{whole} whole and {broken} broken histories");
}
