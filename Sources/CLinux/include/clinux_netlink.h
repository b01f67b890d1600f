#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/socket.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/if_link.h>
#include <linux/if_addr.h>
#include <linux/veth.h>
#include <linux/pkt_sched.h>
#include <linux/pkt_cls.h>
#include <linux/tc_act/tc_mirred.h>

// Values that the kernel's headers spell with casts or as macros Swift does not import.
enum {
    CLINUX_SOL_NETLINK = 270,
    CLINUX_TC_H_INGRESS = 0xFFFFFFF1,
    CLINUX_TC_INGRESS_HANDLE = 0xFFFF0000,
};
