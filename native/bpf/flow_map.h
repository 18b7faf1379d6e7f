/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The flows that the gateway has lent: its entries, and what both sides note of each. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"

/* Sizes are set by the gateway before it loads the program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u32);
} keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");
