//! Which mode is a pod's.

use crate::{
    config::extensions::{PlaintextMode, PlaintextPolicy, PodSelector},
    origin::Pod,
};

impl PlaintextPolicy {
    /// The mode for a pod: an exclusion wins, then the first rule that selects the pod, then `mode`.
    pub fn mode_of(&self, pod: &Pod) -> PlaintextMode {
        if self.exclude.iter().any(|selector| selector.selects(pod)) {
            return PlaintextMode::Observe;
        }
        let rule = self.rules.iter().find(|rule| rule.pods.selects(pod));
        rule.map_or(self.mode, |rule| rule.mode)
    }

    /// The mode for a pod of which only the uid is known: the mildest that it could have, because nobody is to be
    /// blocked by a guess. It holds until the pod source knows the pod.
    pub fn mode_of_unknown(&self) -> PlaintextMode {
        if !self.exclude.is_empty() {
            return PlaintextMode::Observe;
        }
        let mut mildest = PlaintextMode::Block;
        for rule in &self.rules {
            mildest = mildest.min(rule.mode);
            if rule.pods == PodSelector::default() {
                return mildest;
            }
        }
        mildest.min(self.mode)
    }
}

impl PodSelector {
    /// Whether it selects the pod: one of the namespaces, if there are any, and all of the labels.
    pub fn selects(&self, pod: &Pod) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(&pod.namespace))
            && self.match_labels.iter().all(|wanted| pod.labels.contains(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::extensions::PlaintextRule;
    use PlaintextMode::{Block, Observe, Warn};

    fn select(namespaces: &[&str], labels: &[(&str, &str)]) -> PodSelector {
        PodSelector {
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            match_labels: labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    fn rule(mode: PlaintextMode, pods: PodSelector) -> PlaintextRule {
        PlaintextRule { mode, pods }
    }

    fn pod(namespace: &str, labels: &[(&str, &str)]) -> Pod {
        let labels = labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        Pod { namespace: namespace.to_owned(), labels, ..Pod::default() }
    }

    #[test]
    fn an_exclusion_wins_and_then_the_first_rule() {
        let policy = PlaintextPolicy {
            mode: Warn,
            rules: vec![
                rule(Observe, select(&["shop"], &[("tier", "legacy")])),
                rule(Block, select(&["shop", "bank"], &[])),
                rule(Warn, select(&["shop"], &[])),
                rule(Block, select(&[], &[("pci", "true"), ("env", "prod")])),
            ],
            exclude: vec![select(&["kube-system"], &[]), select(&["bank"], &[("app", "printer")])],
            ..PlaintextPolicy::default()
        };
        for (namespace, labels, expected) in [
            ("shop", &[][..], Block),
            ("shop", &[("tier", "legacy")][..], Observe),
            ("shop", &[("tier", "new"), ("app", "x")][..], Block),
            ("bank", &[][..], Block),
            ("bank", &[("app", "printer")][..], Observe),
            ("bank", &[("app", "printers")][..], Block),
            ("shop", &[("app", "printer")][..], Block),
            ("kube-system", &[("pci", "true"), ("env", "prod")][..], Observe),
            ("other", &[("pci", "true"), ("env", "prod")][..], Block),
            ("other", &[("pci", "true")][..], Warn),
            ("other", &[][..], Warn),
            ("", &[][..], Warn),
            ("SHOP", &[][..], Warn),
        ] {
            assert_eq!(policy.mode_of(&pod(namespace, labels)), expected, "{namespace} {labels:?}");
        }
        assert!(policy.blocks() && policy.needs_pods());
    }

    #[test]
    fn a_pod_that_nobody_knows_gets_the_mildest_mode() {
        let (shop, all) = (|| select(&["shop"], &[]), PodSelector::default);
        for (mode, rules, exclude, expected) in [
            (Block, vec![], vec![], Block),
            (Block, vec![], vec![shop()], Observe),
            (Block, vec![rule(Warn, shop())], vec![], Warn),
            (Observe, vec![rule(Block, shop())], vec![], Observe),
            (Observe, vec![rule(Block, shop()), rule(Warn, all())], vec![], Warn),
            (Observe, vec![rule(Block, all())], vec![], Block),
        ] {
            let policy = PlaintextPolicy { mode, rules, exclude, ..PlaintextPolicy::default() };
            assert_eq!(policy.mode_of_unknown(), expected, "{policy:?}");
        }
        assert!(!PlaintextPolicy::default().blocks() && !PlaintextPolicy::default().needs_pods());
    }
}
