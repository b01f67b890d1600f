#pragma once
#include <libvirt/libvirt.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

// libvirt takes one untyped function for every kind of event; only C can cast to it.
static inline int clibvirt_register_lifecycle(
    virConnectPtr connection, virConnectDomainEventCallback callback, void *context, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, (virDomainPtr)0, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(callback), context, release);
}

// Errors of disks, with the errno's short name.
static inline int clibvirt_register_disk_errors(
    virConnectPtr connection, virConnectDomainEventIOErrorReasonCallback callback, void *context, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, (virDomainPtr)0, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, VIR_DOMAIN_EVENT_CALLBACK(callback), context, release);
}

static inline int clibvirt_register_reboots(
    virConnectPtr connection, virConnectDomainEventGenericCallback callback, void *context, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, (virDomainPtr)0, VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(callback), context, release);
}

static inline int clibvirt_register_watchdogs(
    virConnectPtr connection, virConnectDomainEventWatchdogCallback callback, void *context, virFreeCallback release) {
    return virConnectDomainEventRegisterAny(
        connection, (virDomainPtr)0, VIR_DOMAIN_EVENT_ID_WATCHDOG, VIR_DOMAIN_EVENT_CALLBACK(callback), context, release);
}

static inline void clibvirt_ignore_error(void *context, virErrorPtr error) {
    (void)context;
    (void)error;
}

// Without a function of its own libvirt prints every error to stderr.
static inline void clibvirt_silence_errors(void) { virSetErrorFunc((void *)0, clibvirt_ignore_error); }
