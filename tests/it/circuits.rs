//! Heads as maps of the residual stream against NumPy with whole matrices: tests/reference/circuits.py.

use crate::support::{assert_close, fixture, numbers, reference, work};
use saerepl::analysis::{Circuit, CircuitOptions, Input, composition, composition_matrix, head_svd};
use saerepl::model::{Model, ModelOptions};

const MODELS: [&str; 2] = ["tiny-gemma2", "forward/gpt2"];

fn open(name: &str) -> Model {
    Model::load(&fixture(name), &ModelOptions::default(), &work()).unwrap()
}

#[test]
fn singular_values_and_directions_are_those_of_the_whole_matrix() {
    let (work, options) = (work(), CircuitOptions::default());
    for name in MODELS {
        let (model, expected) = (open(name), &reference("circuits.json")[name]);
        let heads = model.cfg().n_heads;
        let last = model.cfg().n_layers * heads - 1;
        for (circuit, values, whole) in [(Circuit::Qk, "singular_qk", "last_qk"), (Circuit::Ov, "singular_ov", "last_ov")] {
            for i in 0..=last {
                let found = head_svd(&model, i / heads, i % heads, circuit, &options, &work).unwrap();
                assert_close(&found.s.to_f64(), &numbers(&expected[values][i]), 1e-6, &format!("{name} {values} {i}"));
                assert_eq!(found.u.shape(), [model.cfg().d_model, model.cfg().d_head]);
                if i == last {
                    let (u, s, v) = (found.u.to_f64(), found.s.to_f64(), found.v.to_f64());
                    let (d, rank) = (model.cfg().d_model, s.len());
                    let entry = |i: usize, j: usize| (0..rank).map(|r| u[i * rank + r] * s[r] * v[j * rank + r]).sum();
                    let again: Vec<f64> = (0..d * d).map(|at| entry(at / d, at % d)).collect();
                    assert_close(&again, &numbers(&expected[whole]), 1e-6, &format!("{name} {whole}"));
                }
            }
        }
    }
}

#[test]
fn composition_is_that_of_whole_matrices() {
    let (work, options) = (work(), CircuitOptions::default());
    for name in MODELS {
        let (model, expected) = (open(name), &reference("circuits.json")[name]);
        let (heads, n) = (model.cfg().n_heads, model.cfg().n_heads * model.cfg().n_layers);
        for input in Input::ALL {
            let matrix = composition_matrix(&model, *input, &options, &work).unwrap().to_f64();
            let wanted = numbers(&expected[input.name()]);
            let later: Vec<usize> = (0..n * n).filter(|at| at % n / heads > at / n / heads).collect();
            assert!((0..n * n).all(|at| matrix[at].is_nan() != later.contains(&at)), "{name}");
            let of = |values: &[f64]| later.iter().map(|at| values[*at]).collect::<Vec<_>>();
            assert_close(&of(&matrix), &of(&wanted), 1e-6, &format!("{name} {}", input.name()));
            let (from, to) = ((0, 1), (2, 0));
            let one = composition(&model, from, to, *input, &options, &work).unwrap();
            assert!((one - matrix[from.1 * n + to.0 * heads]).abs() < 1e-12, "{name}: {one}");
        }
        assert!(composition(&model, (1, 0), (1, 1), Input::Key, &options, &work).is_err());
    }
}
