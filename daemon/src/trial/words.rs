//! The words that experiments are made of: common, of three to eight letters, easy on a phone's keyboard.

/// One for each value of a byte, so that a random byte chooses evenly. Own list.
pub(super) const WORDS: &[&str; 256] = &[
    "amber", "anchor", "apple", "apron", "arrow", "aspen", "autumn", "badge", "bagel", "bamboo", "banjo",
    "barley", "barrel", "basin", "basket", "beacon", "beaver", "bellows", "berry", "birch", "biscuit",
    "bison", "blanket", "blossom", "bobbin", "bonnet", "bottle", "boulder", "bracket", "branch", "brass",
    "breeze", "brick", "bridge", "bronze", "brook", "bucket", "buckle", "bundle", "butter", "button",
    "cabin", "cable", "cactus", "camel", "candle", "canoe", "canvas", "canyon", "carbon", "cargo", "carpet",
    "carrot", "castle", "cedar", "cellar", "cello", "chalk", "cherry", "chisel", "cider", "cinder",
    "clarinet", "clay", "cliff", "clover", "cobalt", "cobble", "cocoa", "comet", "copper", "coral", "cotton",
    "cradle", "crane", "crayon", "cricket", "crystal", "cymbal", "daisy", "denim", "desert", "dingo",
    "dragon", "drift", "drum", "dune", "eagle", "easel", "ember", "engine", "fabric", "falcon", "fender",
    "fennel", "ferry", "fiddle", "field", "flint", "flute", "forest", "fossil", "fountain", "fox", "frost",
    "galaxy", "garden", "garlic", "gazelle", "ginger", "glacier", "glove", "goblet", "gondola", "granite",
    "grape", "gravel", "guitar", "hammer", "hammock", "harbour", "harness", "harvest", "hazel", "heron",
    "hickory", "hinge", "honey", "horizon", "hornet", "igloo", "indigo", "island", "ivory", "jacket",
    "jaguar", "jasmine", "jersey", "jungle", "juniper", "kayak", "kernel", "kettle", "kiosk", "kitten",
    "ladder", "lagoon", "lantern", "lattice", "lava", "lemon", "lentil", "lilac", "linen", "lintel",
    "lizard", "llama", "lobster", "locket", "lotus", "magnet", "mango", "maple", "marble", "marsh", "meadow",
    "melon", "meteor", "mirror", "mitten", "molten", "mosaic", "mustard", "napkin", "nectar", "needle",
    "nettle", "nickel", "nutmeg", "oasis", "oboe", "olive", "onyx", "opal", "orbit", "orchard", "orchid",
    "otter", "oyster", "paddle", "panda", "papaya", "parcel", "parsley", "pebble", "pelican", "pepper",
    "pewter", "piano", "pigeon", "pillow", "pine", "piston", "planet", "plaza", "plum", "pocket", "pollen",
    "poppy", "prairie", "prism", "puffin", "pumpkin", "quarry", "quartz", "quilt", "rabbit", "radish",
    "raven", "ribbon", "river", "rocket", "rosemary", "rudder", "saddle", "saffron", "salmon", "sandal",
    "satin", "sequin", "shovel", "silver", "sleet", "spruce", "squash", "statue", "summit", "sunset",
    "tablet", "tango", "teapot", "thistle", "thunder", "timber", "tulip", "tunnel", "turnip", "velvet",
    "violet", "walnut", "willow", "winter", "wombat", "yarrow", "zebra", "zinc",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_plain_and_each_stands_once() {
        assert!(WORDS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(WORDS.iter().all(|word| {
            (3..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase())
        }));
    }
}
