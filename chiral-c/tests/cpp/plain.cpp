// The second translation unit of a program in which one part has Eigen and the other has not: both
// kinds of headers must be linked without a clash.
#define CHIRAL_NO_EIGEN
#include <chiral/client.hpp>
#include <chiral/server.hpp>

double plain_identity();
double plain_identity() { return chiral::CameraConfig().extrinsics(3, 3); }
