/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* The gate of a flow: who carries it, and how it is given back. */
#pragma once

#include <linux/ip.h>

#include <bpf/bpf_endian.h>

#include "checksum.h"
#include "flow.h"
#include "progress.h"

#define MARK 0x8000

/* So that the gateway knows where the count begins. */
static __always_inline void mark(struct iphdr *ip)
{
	__u16 before = ip->frag_off;
	ip->frag_off = before | bpf_htons(MARK);
	ip->check = (__u16)~fold((__u64)(__u16)~ip->check + (__u16)~before + ip->frag_off);
}

/* Additions whose result is used are full barriers on every machine; those whose result is not are none on arm64. */
static __always_inline void add_in_order(__u32 *place, __s32 more)
{
	__u64 before = __sync_fetch_and_add(place, more);
	asm volatile("" : : "r"(before));
}

/* A live flow is the gateway's with this packet, which is the first that is counted, unless one on another processor was. */
static __always_inline void let_go(struct flow *f)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__u64 gate = *(volatile __u64 *)&f->gate;
		if (!(gate & FLOW_LIVE))
			break;
		if (__sync_val_compare_and_swap(&f->gate, gate, 1) == gate)
			return;
	}
	__sync_fetch_and_and(&f->gate, ~FLOW_LIVE);
	__sync_fetch_and_add(&f->gate, 1);
}
