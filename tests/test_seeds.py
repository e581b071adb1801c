from mfed_ray.seeds import derive, generator


def test_seeds_are_pure_and_distinct() -> None:
    assert derive(0, "shuffle", "client-1", 3) == derive(0, "shuffle", "client-1", 3)
    seeds = {derive(seed, use, client, n) for seed in (0, 1) for use in "ab" for client in "xy" for n in range(10)}
    assert len(seeds) == 80


def test_parts_are_not_glued_together() -> None:
    assert len({derive("ab", "c"), derive("a", "bc"), derive("abc"), derive(1), derive("1")}) == 5


def test_seed_fits_every_generator() -> None:
    assert all(0 <= derive(n) < 2**63 for n in range(100))
    assert generator(1).random() == generator(1).random()
