/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* What is noted of a flow: offsets and clocks that only ever rise, whoever adds to them. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_helpers.h>

#define RAISE_TRIES 8

/* False when the value could not be raised in a few tries: then the gateway takes the packet. */
static __always_inline bool raise(__s64 *place, __s64 value)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__s64 before = *(volatile __s64 *)place;
		if (before >= value)
			return true;
		if (__sync_val_compare_and_swap(place, before, value) == before)
			return true;
	}
	return false;
}

/* The same for a clock of 32 bits (RFC 7323 §5.4). */
static __always_inline bool raise_clock(__u32 *place, __u32 value)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__u32 before = *(volatile __u32 *)place;
		if ((__s32)(value - before) <= 0)
			return true;
		if (__sync_val_compare_and_swap(place, before, value) == before)
			return true;
	}
	return false;
}

/* Offset of a sequence number, the one nearest to `near`. */
static __always_inline __s64 offset_of(__u32 seq, __u32 base, __s64 near)
{
	return near + (__s32)(seq - (base + (__u32)near));
}

static __always_inline __s64 larger(__s64 a, __s64 b)
{
	return a > b ? a : b;
}

static __always_inline __s64 smaller(__s64 a, __s64 b)
{
	return a < b ? a : b;
}
