//! The tensor functions, compared with NumPy, SciPy and PyTorch (tests/reference/tensor_ops.py) and with values that can
//! be checked by hand.

use saerepl::compute::correlation::{corrcoef, pca};
use saerepl::compute::{einsum, matmul};
use saerepl::tensor::{Arithmetic, Bytes, Comparison, DType, Index, Logic, Number};
use saerepl::work::Work;
use saerepl::{Result, tensor::Tensor};
use serde_json::Value as Json;

fn work() -> Work {
    Work::silent(2).unwrap()
}

struct Case(Json);

fn case(name: &str) -> Case {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tensor_ops.json");
    let all: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    Case(all["cases"][name].clone())
}

fn read(json: &Json) -> Tensor {
    fn flatten(json: &Json, shape: &mut Vec<usize>, depth: usize, data: &mut Vec<f64>) {
        match json {
            Json::Array(items) => {
                if shape.len() == depth {
                    shape.push(items.len());
                }
                items.iter().for_each(|item| flatten(item, shape, depth + 1, data));
            }
            Json::Bool(v) => data.push(f64::from(u8::from(*v))),
            number => data.push(number.as_f64().unwrap_or_else(|| panic!("{number} is no number"))),
        }
    }
    let (mut shape, mut data) = (Vec::new(), Vec::new());
    flatten(json, &mut shape, 0, &mut data);
    Tensor::from_f64(data, &shape).unwrap()
}

impl Case {
    fn input(&self, name: &str) -> Tensor {
        read(&self.0["inputs"][name])
    }

    #[track_caller]
    fn check(&self, name: &str, got: Result<Tensor>) {
        let (got, want) = (got.unwrap(), read(&self.0["expected"][name]));
        assert_eq!(got.shape(), want.shape(), "{name}");
        for (got, want) in got.to_f64().into_iter().zip(want.to_f64()) {
            // The reference keeps nine digits.
            assert!((got - want).abs() <= 1e-9 + 6e-9 * want.abs(), "{name}: {got} is not {want}");
        }
    }
}

/// The same numbers stored in another order, so that no dimension is contiguous.
fn scattered(t: &Tensor) -> Tensor {
    let wide = Tensor::stack(&[t.clone(), t.clone()], -1, &work()).unwrap();
    let last = wide.ndim() - 1;
    let turned = wide.permute(&(0..=last).rev().collect::<Vec<_>>()).unwrap().contiguous();
    turned.permute(&(0..=last).rev().collect::<Vec<_>>()).unwrap().select(last, 1).unwrap()
}

#[test]
fn reductions_agree_with_numpy_along_every_dimension_and_in_any_memory_order() {
    let w = work();
    for (name, dim) in [("reduce_all", None), ("reduce_dim0", Some(0)), ("reduce_dim1", Some(-1))] {
        let case = case(name);
        for x in [case.input("x"), scattered(&case.input("x")), case.input("x").t().contiguous().t()] {
            case.check("sum", x.sum(dim, &w));
            case.check("mean", x.mean(dim, &w));
            case.check("std", x.std(dim, 1, &w));
            case.check("variance", x.variance(dim, 1, &w));
            case.check("std_ddof0", x.std(dim, 0, &w));
            case.check("variance_ddof0", x.variance(dim, 0, &w));
            case.check("min", x.min(dim, &w));
            case.check("max", x.max(dim, &w));
            case.check("argmin", x.argmin(dim, &w));
            case.check("argmax", x.argmax(dim, &w));
            case.check("median", x.median(dim, &w));
            case.check("norm", x.norm(2.0, dim, &w));
            for (label, q) in [("quantile_0_1", 0.1), ("quantile_0_75", 0.75), ("quantile_1", 1.0)] {
                case.check(label, x.quantile(&[q], dim, &w).and_then(|t| t.select(0, 0)));
            }
            case.check("skewness", x.skewness(dim, &w));
            case.check("kurtosis", x.kurtosis(dim, &w));
        }
    }
    let norms = case("norm_orders");
    norms.check("norm1", norms.input("x").norm(1.0, None, &w));
    norms.check("norm_inf", norms.input("x").norm(f64::INFINITY, None, &w));
    let even = case("median_even");
    even.check("median", even.input("x").median(None, &w));
    let sums = case("cumsum");
    sums.check("dim0", sums.input("x").cumsum(0, &w));
    sums.check("dim1", sums.input("x").cumsum(1, &w));
}

/// By the definition (NumPy's `linear`) on the sorted elements: few quantiles, which are selected, and many, which are not.
#[test]
fn quantiles_of_long_lanes_are_those_of_the_sorted_elements() {
    let w = work();
    let n = 600_007;
    // Few different numbers, so that many are equal.
    let mut values: Vec<f32> = (0..n as u64).map(|i| (i * 7_919 % 99_991) as f32 - 5e4).collect();
    let mut sorted: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    sorted.sort_by(f64::total_cmp);
    let expected = |q: f64| {
        let at = q * (n - 1) as f64;
        let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(n - 1)]);
        low + (high - low) * at.fract()
    };
    let many: Vec<f64> = (0..=40).rev().map(|i| f64::from(i) / 40.0).collect();
    let lane = |values: &[f32]| Tensor::vector(values.to_vec());
    for points in [&[0.3][..], &[0.5, 0.0, 1.0, 0.123_456, 0.5], &many] {
        let found = lane(&values).quantile(points, None, &w).unwrap().to_f64();
        assert_eq!(found, points.iter().map(|q| expected(*q)).collect::<Vec<_>>());
    }
    values[n / 2] = f32::NAN;
    assert!(lane(&values).median(None, &w).unwrap().item().unwrap().is_nan());
}

#[test]
fn order_agrees_with_pytorch_ties_by_index() {
    let w = work();
    let ties = case("sort_ties");
    let x = ties.input("x");
    ties.check("sorted", x.sort(0, false, &w));
    ties.check("argsort", x.argsort(0, false, &w));
    ties.check("sorted_descending", x.sort(0, true, &w));
    ties.check("argsort_descending", x.argsort(0, true, &w));
    for k in [3, 5] {
        let top = x.topk(k, -1, true, &w).unwrap();
        ties.check(&format!("top{k}_values"), Ok(top.values));
        ties.check(&format!("top{k}_indices"), Ok(top.indices));
    }
    ties.check("argmax", x.argmax(None, &w));
    ties.check("argmin", x.argmin(None, &w));
    for dim in [0, 1] {
        let case = case(&format!("sort_dim{dim}"));
        for x in [case.input("x"), scattered(&case.input("x"))] {
            case.check("sorted", x.sort(dim, false, &w));
            case.check("argsort", x.argsort(dim, false, &w));
            let top = x.topk(2, dim, true, &w).unwrap();
            case.check("top2_values", Ok(top.values));
            case.check("top2_indices", Ok(top.indices));
        }
    }
    let distinct = case("unique");
    let unique = distinct.input("x").unique(&w).unwrap();
    distinct.check("values", Ok(unique.values));
    distinct.check("counts", Ok(unique.counts));
    let rank = case("rank");
    rank.check("average", rank.input("x").rank(0, &w));
}

#[test]
fn histograms_agree_with_numpy() {
    for (name, label, bins) in [("histogram", "bins4", 4), ("histogram_ties", "bins10", 10), ("histogram_constant", "bins3", 3)] {
        let case = case(name);
        let histogram = case.input("x").histogram(bins, None, &work()).unwrap();
        case.check(&format!("{label}_counts"), Ok(histogram.counts));
        case.check(&format!("{label}_edges"), Ok(histogram.edges));
    }
}

#[test]
fn functions_agree_with_pytorch() {
    let w = work();
    let case_ = case("activations");
    for x in [case_.input("x"), scattered(&case_.input("x"))] {
        case_.check("gelu", x.gelu(&w));
        case_.check("gelu_tanh", x.gelu_tanh(&w));
        case_.check("silu", x.silu(&w));
        case_.check("sigmoid", x.sigmoid(&w));
        case_.check("tanh", x.tanh(&w));
        case_.check("relu", x.relu(&w));
        case_.check("exp", x.exp(&w));
        case_.check("softmax_dim0", x.softmax(0, &w));
        case_.check("softmax_dim1", x.softmax(1, &w));
        case_.check("log_softmax_dim0", x.log_softmax(0, &w));
        case_.check("log_softmax_dim1", x.log_softmax(-1, &w));
        case_.check("clamp", x.clamp(Some(Number::Float(-0.5)), Some(Number::Float(1.25)), &w));
        case_.check("sign", x.sign(&w));
        case_.check("abs", x.abs(&w));
    }
    let large = case("softmax_large");
    large.check("softmax", large.input("x").softmax(0, &w));
    large.check("log_softmax", large.input("x").log_softmax(0, &w));
    let half = case("round");
    half.check("round", half.input("x").round(&w));
    half.check("floor", half.input("x").floor(&w));
    let power = case("pow");
    let base = power.input("x");
    power.check("cube", Tensor::arithmetic(Arithmetic::Pow, &base, 3i64, &w));
    power.check("half", Tensor::arithmetic(Arithmetic::Pow, &base, 0.5, &w));
    power.check("inverse", Tensor::arithmetic(Arithmetic::Pow, &base, -1i64, &w));
    power.check("number_base", Tensor::arithmetic(Arithmetic::Pow, 2.0, &base, &w));
}

#[test]
fn relations_agree_with_numpy() {
    let w = work();
    let cosine = case("cosine_similarity");
    let (a, b) = (cosine.input("a"), cosine.input("b"));
    cosine.check("dim0", a.cosine_similarity(&b, 0, &w));
    cosine.check("dim1", a.cosine_similarity(&b, 1, &w));
    let rows = case("corrcoef");
    rows.check("rows", corrcoef(&rows.input("x"), &w));
    let pair = case("spearman");
    let (a, b) = (pair.input("a"), pair.input("b"));
    pair.check("spearman", a.spearman(&b, &w).map(Tensor::scalar));
    pair.check("pearson", a.pearson(&b, &w).map(Tensor::scalar));
    let products = case("matmul");
    let v = products.input("v");
    products.check("outer", v.outer(&v, &w));
    products.check("dot", v.dot(&v, &w));
}

#[test]
fn einsum_agrees_with_numpy() {
    let w = work();
    let case = case("einsum");
    let [a, b, v, c, s] = ["a", "b", "v", "c", "s"].map(|name| case.input(name));
    let equations: [(&str, &[&Tensor]); 12] = [
        ("ij,kj->ik", &[&a, &b]),
        ("ij,j->i", &[&a, &v]),
        ("ij->ji", &[&a]),
        ("ij->", &[&a]),
        ("ii->", &[&s]),
        ("ii->i", &[&s]),
        ("i,j->ij", &[&v, &v]),
        ("ijk,kj->i", &[&c, &b]),
        ("ij,ijk->ik", &[&a, &c]),
        ("ijk,kl->ijl", &[&c, &b]),
        ("ij,ij->i", &[&a, &a]),
        ("ij,jk,lk->il", &[&a, &s, &b]),
    ];
    for (equation, operands) in equations {
        let operands: Vec<Tensor> = operands.iter().map(|t| (*t).clone()).collect();
        case.check(equation, einsum(equation, &operands, &w));
    }
    case.check("trace", s.trace(&w));
    // Without an arrow: letters that stand once, in alphabetical order; so "ji" is the transpose.
    let turned = einsum("ji", std::slice::from_ref(&a), &w).unwrap();
    assert!(turned.equal(&a.t(), &w).unwrap());
    for (equation, what) in
        [("ij,jk->ik", "`j` has the size 3 in one place and 4"), ("ij->ij", "for 1 tensors"), ("i1,ij", "no letter")]
    {
        let error = einsum(equation, &[a.clone(), b.clone()], &w).unwrap_err();
        assert!(error.message().contains(what), "{error}");
    }
}

#[test]
fn principal_components_agree_with_numpy() {
    let w = work();
    let case = case("pca");
    let got = pca(&case.input("x"), 4, &w).unwrap();
    case.check("explained_variance", Ok(got.explained_variance.clone()));
    case.check("explained_ratio", Ok(got.explained_ratio.clone()));
    case.check("mean", Ok(got.mean.clone()));
    case.check("abs_components", got.components.abs(&w));
    case.check("abs_scores", got.scores.abs(&w));
    let rebuilt = Tensor::arithmetic(Arithmetic::Add, matmul(&got.scores, &got.components, &w).unwrap(), &got.mean, &w).unwrap();
    assert!(rebuilt.allclose(&case.input("x"), 1e-12, 1e-12, false, &w).unwrap());
    assert!(pca(&case.input("x"), 5, &w).is_err());
}

#[test]
fn promotion_follows_pytorch() {
    let w = work();
    let (b, i) = (Tensor::from_bool(vec![true, false], &[2]).unwrap(), Tensor::vector_i64(vec![3, -7]));
    let (f, d) = (Tensor::vector(vec![1.5, 2.0]), Tensor::vector_f64(vec![0.1, 0.2]));
    let add =
        |a: saerepl::tensor::Operand, b: saerepl::tensor::Operand| Tensor::arithmetic(Arithmetic::Add, a, b, &w).unwrap().dtype();
    assert_eq!(add((&b).into(), (&i).into()), DType::I64);
    assert_eq!(add((&i).into(), (&f).into()), DType::F32);
    assert_eq!(add((&f).into(), (&d).into()), DType::F64);
    // Numbers, and tensors without dimensions, are the weaker side unless their kind is higher.
    assert_eq!(add((&i).into(), 2.5.into()), DType::F32);
    assert_eq!(add(2i64.into(), (&f).into()), DType::F32);
    assert_eq!(add((&f).into(), Tensor::scalar(2.0).into()), DType::F32);
    assert_eq!(add((&i).into(), Tensor::scalar(2.0).into()), DType::F64);
    let quotient = Tensor::arithmetic(Arithmetic::Div, &i, 2i64, &w).unwrap();
    assert_eq!((quotient.dtype(), quotient.to_f32()), (DType::F32, vec![1.5, -3.5]));
    let rest = Tensor::arithmetic(Arithmetic::Rem, &i, 4i64, &w).unwrap();
    assert_eq!(rest.to_i64(), [3, 1]);
    assert_eq!(Tensor::arithmetic(Arithmetic::Pow, &i, 3i64, &w).unwrap().to_i64(), [27, -343]);
    assert!(Tensor::arithmetic(Arithmetic::Rem, &i, 0i64, &w).is_err());
    assert!(Tensor::arithmetic(Arithmetic::Pow, &i, -1i64, &w).is_err());
    // An integer that f32 does not hold is compared as it is.
    let large = Tensor::vector_i64(vec![(1 << 24) + 1]);
    assert_eq!(Tensor::compare(Comparison::Eq, &large, 16_777_216.0, &w).unwrap().to_bool(), [false]);
}

#[test]
fn broadcasting_and_comparison_by_hand() {
    let w = work();
    let rows = Tensor::vector(vec![10.0, 20.0]).unsqueeze(1).unwrap();
    let cols = Tensor::vector(vec![1.0, 2.0, 3.0]);
    let sum = Tensor::arithmetic(Arithmetic::Add, &rows, &cols, &w).unwrap();
    assert_eq!((sum.shape(), sum.to_f32()), (&[2, 3][..], vec![11.0, 12.0, 13.0, 21.0, 22.0, 23.0]));
    let mask = Tensor::compare(Comparison::Gt, &sum, 12.0, &w).unwrap();
    assert_eq!(mask.to_bool(), [false, false, true, true, true, true]);
    let odd = Tensor::compare(Comparison::Eq, Tensor::arithmetic(Arithmetic::Rem, &sum, 2i64, &w).unwrap(), 1i64, &w).unwrap();
    assert_eq!(Tensor::logic(Logic::And, &mask, &odd, &w).unwrap().to_bool(), [false, false, true, true, false, true]);
    assert_eq!(mask.choose(&sum, 0i64, &w).unwrap().to_f32(), [0.0, 0.0, 13.0, 21.0, 22.0, 23.0]);
    assert_eq!(mask.nonzero(&w).unwrap().to_i64(), [0, 2, 1, 0, 1, 1, 1, 2]);
    assert_eq!(sum.mask_select(&mask, &w).unwrap().to_f32(), [13.0, 21.0, 22.0, 23.0]);
    let error = Tensor::arithmetic(Arithmetic::Add, &sum, Tensor::vector(vec![1.0, 2.0]), &w).unwrap_err();
    assert!(error.message().contains("[2, 3] and [2] do not broadcast"), "{error}");
}

#[test]
fn indexing_and_writing_by_hand() {
    let w = work();
    let t = Tensor::from_i64((0..12).collect(), &[4, 3]).unwrap();
    let get = |t: &Tensor, index: Index| t.get(&index, &w).unwrap().to_i64();
    assert_eq!(get(&t, Index::At(-1)), [9, 10, 11]);
    assert_eq!(get(&t, Index::Range(-2, None)), [6, 7, 8, 9, 10, 11]);
    assert_eq!(get(&t, Index::Range(1, Some(-2))), [3, 4, 5]);
    assert_eq!(get(&t, Index::List(Tensor::vector_i64(vec![2, -4]))), [6, 7, 8, 0, 1, 2]);
    assert_eq!(t.slice(1, 1, Some(2)).unwrap().to_i64(), [1, 4, 7, 10]);
    assert_eq!(t.at(&[1, -1]).unwrap().to_i64(), [5]);
    assert_eq!(t.t().index_select(0, &Tensor::vector_i64(vec![1]), &w).unwrap().to_i64(), [1, 4, 7, 10]);
    let picks = Tensor::from_i64(vec![0, 2, 1, 1], &[2, 2]).unwrap();
    assert_eq!(t.gather(1, &picks, &w).unwrap().to_i64(), [0, 2, 4, 4]);
    assert_eq!(t.gather(0, &picks, &w).unwrap().to_i64(), [0, 7, 3, 4]);

    let mut changed = t.clone();
    changed.set(&Index::At(0), -1i64, &w).unwrap();
    changed.set(&Index::Range(2, None), Tensor::vector_i64(vec![7, 8, 9]), &w).unwrap();
    let mask = Tensor::compare(Comparison::Eq, &changed, 9i64, &w).unwrap();
    changed.set(&Index::Mask(mask), 0.0, &w).unwrap();
    assert_eq!(changed.to_i64(), [-1, -1, -1, 3, 4, 5, 7, 8, 0, 7, 8, 0]);
    assert_eq!(t.to_i64(), (0..12).collect::<Vec<_>>());
    assert!(changed.set(&Index::At(0), 0.5, &w).unwrap_err().message().contains("cannot hold 0.5"));
    assert!(t.get(&Index::At(4), &w).unwrap_err().message().contains("index 4 is out of range for a dimension of size 4"));
    assert!(t.get(&Index::Range(0, Some(5)), &w).is_err());
}

/// More elements than are written in place.
#[test]
fn many_elements_are_written_all_or_not_at_all() {
    let (w, n) = (work(), 1_500_000);
    let mut t = Tensor::zeros(&[n], &w).unwrap();
    // From the last to the first, and two of them twice: what comes last stays.
    let mut places: Vec<i64> = (0..n as i64).rev().collect();
    places.extend([5, -1]);
    let values = (0..n + 2).map(|i| i as f32).collect();
    t.set(&Index::List(Tensor::vector_i64(places.clone())), Tensor::vector(values), &w).unwrap();
    let expected = |i: usize| {
        if i == 5 {
            n
        } else if i == n - 1 {
            n + 1
        } else {
            n - 1 - i
        }
    };
    assert!(t.to_f32().iter().enumerate().all(|(i, value)| *value == expected(i) as f32));

    places[1_200_000] = n as i64;
    places[700_000] = -(n as i64) - 1;
    let wrong = t.get(&Index::List(Tensor::vector_i64(places)), &w).unwrap_err();
    assert!(wrong.message().starts_with("index -1500001 is out of range"), "{wrong}");

    let (before, whole) = (t.clone(), Index::Range(0, None));
    w.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(t.set(&whole, 7.0, &w).unwrap_err().is_interrupted());
    w.reset_cancel();
    assert!(t.equal(&before, &w).unwrap());
    t.set(&whole, 7.0, &w).unwrap();
    assert_eq!((t.min(None, &w).unwrap().item().unwrap(), before.max(None, &w).unwrap().item().unwrap()), (7.0, 1_500_001.0));
}

#[test]
fn rows_are_changed_in_any_layout() {
    let w = work();
    // Enough for several threads, turned, and a part of a larger one.
    let t = Tensor::randn(&[700, 900], 3, 0, &w).unwrap().t().narrow(0, 100..800).unwrap();
    let changed = t.clone().map_rows(&w, |i, row| row.iter_mut().for_each(|v| *v = 2.0 * *v + i as f32)).unwrap();
    let expected: Vec<f32> = t.to_f32().iter().enumerate().map(|(i, v)| 2.0 * v + (i / 700) as f32).collect();
    assert!(changed.shape() == [700, 700] && changed.to_f32() == expected);
    assert!(Tensor::zeros(&[3], &w).unwrap().map_rows(&w, |_, _| ()).is_err());
    assert_eq!(Tensor::zeros(&[3, 0], &w).unwrap().map_rows(&w, |_, _| ()).unwrap().shape(), [3, 0]);
}

#[test]
fn stored_halves_become_f32_when_written_to() {
    // bf16 1.0 and 2.0.
    let mut t = Tensor::from_bytes(Bytes::from(vec![0x80, 0x3f, 0x00, 0x40]), DType::BF16, &[2]).unwrap();
    t.set(&Index::At(0), 0.1, &work()).unwrap();
    assert_eq!((t.dtype(), t.to_f32()), (DType::F32, vec![0.1, 2.0]));
}

#[test]
fn joining_and_reshaping_by_hand() {
    let w = work();
    let a = Tensor::from_i64(vec![1, 2, 3, 4], &[2, 2]).unwrap();
    let b = Tensor::from_f32(vec![5.0, 6.0], &[2, 1]).unwrap();
    let joined = Tensor::cat(&[a.clone(), b.clone()], 1, &w).unwrap();
    assert_eq!((joined.dtype(), joined.to_f32()), (DType::F32, vec![1.0, 2.0, 5.0, 3.0, 4.0, 6.0]));
    let stacked = Tensor::stack(&[a.clone(), a.t()], -1, &w).unwrap();
    assert_eq!((stacked.shape(), stacked.to_i64()), (&[2, 2, 2][..], vec![1, 1, 2, 3, 3, 2, 4, 4]));
    assert!(Tensor::cat(&[a.clone(), b], 0, &w).is_err());
    assert_eq!(joined.reshape_to(&[-1, 2]).unwrap().shape(), [3, 2]);
    assert!(joined.reshape_to(&[-1, 4]).is_err());
    assert!(joined.reshape_to(&[0, -1]).is_err());
    assert_eq!(stacked.permute_to(&[-1, 0, 1]).unwrap().to_i64(), [1, 2, 3, 4, 1, 3, 2, 4]);
    assert_eq!(a.unsqueeze(-1).unwrap().shape(), [2, 2, 1]);
    assert_eq!(a.unsqueeze(0).unwrap().squeeze(Some(0)).unwrap().shape(), [2, 2]);
}

#[test]
fn nothing_and_nan_are_answered_as_documented() {
    let w = work();
    let nothing = Tensor::from_f32(vec![], &[0, 3]).unwrap();
    assert_eq!(nothing.sum(Some(0), &w).unwrap().to_f32(), [0.0; 3]);
    assert!(nothing.mean(None, &w).unwrap().item().unwrap().is_nan());
    assert!(nothing.median(Some(0), &w).unwrap().to_f32().iter().all(|x| x.is_nan()));
    assert_eq!(nothing.max(Some(1), &w).unwrap().shape(), [0]);
    assert!(nothing.max(Some(0), &w).is_err());
    assert_eq!(nothing.sort(0, false, &w).unwrap().shape(), [0, 3]);
    assert_eq!(nothing.softmax(0, &w).unwrap().shape(), [0, 3]);
    assert_eq!(nothing.unique(&w).unwrap().values.shape(), [0]);
    assert_eq!(nothing.histogram(2, None, &w).unwrap().counts.to_i64(), [0, 0]);
    assert_eq!(nothing.nonzero(&w).unwrap().shape(), [0, 2]);
    assert!(Tensor::vector(vec![2.0]).std(None, 1, &w).unwrap().item().unwrap().is_nan());

    let holed = Tensor::vector(vec![2.0, f32::NAN, 1.0]);
    assert!(holed.max(None, &w).unwrap().item().unwrap().is_nan());
    assert_eq!(holed.argmin(None, &w).unwrap().to_i64(), [1]);
    assert_eq!(holed.argsort(0, false, &w).unwrap().to_i64(), [2, 0, 1]);
    assert_eq!(holed.argsort(0, true, &w).unwrap().to_i64(), [1, 0, 2]);
    assert!(holed.median(None, &w).unwrap().item().unwrap().is_nan());
    assert!(holed.rank(0, &w).unwrap().to_f64().iter().all(|x| x.is_nan()));
    assert_eq!(holed.isnan(&w).unwrap().to_bool(), [false, true, false]);
    assert!(!holed.equal(&holed, &w).unwrap());
    assert!(holed.allclose(&holed, 0.0, 0.0, true, &w).unwrap());
    let infinite = Tensor::vector(vec![f32::INFINITY]);
    assert!(!Tensor::vector(vec![1.0]).allclose(&infinite, 1e-5, 1e-8, false, &w).unwrap());
}

/// Large enough to be cut into chunks and shared between threads; lanes in every memory order.
#[test]
fn large_tensors_do_not_depend_on_threads_or_memory_order() {
    let (one, four) = (Work::silent(1).unwrap(), Work::silent(4).unwrap());
    let x = Tensor::randn(&[700, 900], 5, 0, &one).unwrap();
    assert!(x.equal(&Tensor::randn(&[700, 900], 5, 0, &four).unwrap(), &one).unwrap());
    assert!(!x.equal(&Tensor::randn(&[700, 900], 5, 1, &one).unwrap(), &one).unwrap());
    let turned = x.t().contiguous().t();
    for dim in [None, Some(0), Some(1)] {
        let a = x.std(dim, 1, &one).unwrap();
        assert!(a.equal(&x.std(dim, 1, &four).unwrap(), &one).unwrap());
        assert!(a.allclose(&turned.std(dim, 1, &four).unwrap(), 1e-6, 0.0, false, &one).unwrap());
        assert!(x.argmax(dim, &one).unwrap().equal(&turned.argmax(dim, &four).unwrap(), &one).unwrap());
    }
    for dim in [0, 1] {
        assert!(x.cumsum(dim, &one).unwrap().equal(&turned.cumsum(dim, &four).unwrap(), &one).unwrap());
    }
    // The sample's moments within five standard errors of the normal distribution's.
    let n = x.numel() as f64;
    assert!(x.mean(None, &one).unwrap().item().unwrap().abs() < 5.0 / n.sqrt());
    assert!((x.variance(None, 0, &one).unwrap().item().unwrap() - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    assert!((x.kurtosis(None, &one).unwrap().item().unwrap() - 3.0).abs() < 5.0 * (24.0 / n).sqrt());
    let doubled = Tensor::arithmetic(Arithmetic::Add, &turned, &x, &four).unwrap();
    assert!(doubled.equal(&Tensor::arithmetic(Arithmetic::Mul, &x, 2i64, &one).unwrap(), &one).unwrap());
    let sorted = x.flatten().unwrap().sort(0, false, &four).unwrap();
    assert_eq!(sorted.at(&[0]).unwrap().item().unwrap(), x.min(None, &one).unwrap().item().unwrap());
}

#[test]
fn an_interrupt_stops_and_a_size_beyond_memory_is_refused() {
    let w = work();
    let x = Tensor::ones(&[1000, 1000], &w).unwrap();
    w.cancel_flag().store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(x.exp(&w).unwrap_err().is_interrupted());
    assert!(x.sum(Some(0), &w).unwrap_err().is_interrupted());
    assert!(x.sort(0, false, &w).unwrap_err().is_interrupted());
    w.reset_cancel();
    assert!(Tensor::zeros(&[1 << 30, 1 << 20], &w).unwrap_err().message().contains("does not fit into memory"));
    let long = Tensor::zeros(&[1 << 20], &w).unwrap();
    assert!(Tensor::arithmetic(Arithmetic::Add, long.unsqueeze(1).unwrap(), &long, &w).is_err());
}

#[test]
fn sequences_by_hand() {
    let w = work();
    let arange = |a, b, s| Tensor::arange(Number::Int(a), Number::Int(b), Number::Int(s), &w).map(|t| t.to_i64());
    assert_eq!(arange(2, 9, 3).unwrap(), [2, 5, 8]);
    assert_eq!(arange(3, 0, -1).unwrap(), [3, 2, 1]);
    assert_eq!(arange(3, 3, 1).unwrap(), Vec::<i64>::new());
    assert!(arange(0, 3, -1).is_err() && arange(0, 3, 0).is_err());
    let halves = Tensor::arange(Number::Float(0.0), Number::Int(1), Number::Float(0.25), &w).unwrap();
    assert_eq!(halves.to_f32(), [0.0, 0.25, 0.5, 0.75]);
    assert_eq!(Tensor::linspace(-1.0, 1.0, 5, &w).unwrap().to_f32(), [-1.0, -0.5, 0.0, 0.5, 1.0]);
    assert_eq!(Tensor::linspace(3.0, 4.0, 1, &w).unwrap().to_f32(), [3.0]);
    assert_eq!(Tensor::eye(2, &w).unwrap().to_f32(), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn a_tensor_shows_a_corner_never_the_whole() {
    let w = work();
    let small = Tensor::from_f32(vec![1.0, -2.5, 3.0, 100.0], &[2, 2]).unwrap();
    assert_eq!(small.to_string(), "Tensor [2, 2] f32\n[[  1.0000,  -2.5000],\n [  3.0000, 100.0000]]");
    let whole = Tensor::vector(vec![1.0, 2.0]);
    assert_eq!(whole.to_string(), "Tensor [2] f32\n[1.0, 2.0]");
    let large = Tensor::zeros(&[1000, 1000], &w).unwrap().to_string();
    assert_eq!(large.lines().nth(1).unwrap(), "[[0.0, 0.0, 0.0, …, 0.0, 0.0, 0.0],");
    assert_eq!(large.lines().nth(4).unwrap(), " …,");
    assert_eq!(large.lines().count(), 8);
    assert_eq!(Tensor::vector(vec![1e-7, 1.0]).to_string().lines().nth(1).unwrap(), "[1.0000e-07, 1.0000e+00]");
    assert_eq!(Tensor::from_bool(vec![true, false], &[2]).unwrap().to_string(), "Tensor [2] bool\n[ true, false]");
    assert_eq!(Tensor::from_f32(vec![], &[0, 3]).unwrap().to_string(), "Tensor [0, 3] f32");
    let deep = Tensor::zeros(&[2; 12], &w).unwrap().to_string();
    assert!(deep.matches("0.0").count() <= 36 && deep.contains('…'), "{deep}");
}
