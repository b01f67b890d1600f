#pragma once
#include <virglrenderer.h>
